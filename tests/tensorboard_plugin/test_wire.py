"""Binary answers: what is packed is unpacked, and arrays lie where they can be read without a copy."""

import struct

import pytest

from keras_gradcam.tensorboard_plugin.wire import MAGIC, pack, unpack


@pytest.mark.parametrize("parts", [[], [b""], [b"1", b"", b"12345678", b"123456789"]], ids=len)
@pytest.mark.parametrize("header", [{}, {"name": "\u0642\u0637\u0629", "frames": [[-1, 2, 7, 7]]}])
def test_what_is_packed_is_unpacked(header, parts):
    assert unpack(pack(header, parts)) == (header, parts)


@pytest.mark.parametrize("length", range(9))
def test_every_part_begins_at_a_multiple_of_eight_bytes(length):
    body = pack({"x": "y" * length}, [b"a" * length, b"bcd"])
    (size,) = struct.unpack_from("<I", body, 4)
    assert (8 + size) % 8 == 0
    assert body.index(b"bcd") % 8 == 0


@pytest.mark.parametrize("body", [b"", b"GCT", b"<html>", MAGIC[::-1] + bytes(8)])
def test_anything_else_is_refused(body):
    with pytest.raises(ValueError, match="begins with b'GCT1'"):
        unpack(body)
