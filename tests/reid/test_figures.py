"""Ranked lists and pairs by their pixels."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_gradcam.drawing.canvas import FAINT, LINK, PAPER, RIGHT, WRONG, labelled
from keras_gradcam.drawing.colormaps import color_table
from keras_gradcam.drawing.overlays import overlay, remark
from keras_gradcam.drawing.pixels import Style, cell_size, resized
from keras_gradcam.reid import RankList, SimilarityMaps, pair_figure, rank_figure
from keras_gradcam.reid.figures import _score

# The layout, in pixels.
MARGIN, LINE, GAP, APART, BETWEEN, BORDER = 10, 18, 8, 28, 96, 3


def pictures(count, size=(64, 32), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype("uint8")


def ranked(correct=(True, False, True), size=(64, 32), grid=(4, 2), maps=None, seed=0, similarities=None) -> RankList:
    count, rng = len(correct), np.random.default_rng(seed)
    return RankList(
        index=3,
        identity=7,
        query=pictures(1, size, seed + 1)[0],
        query_map=rng.normal(size=grid).astype("float32"),
        pictures=pictures(count, size, seed + 2),
        maps=rng.normal(size=(count, *grid)).astype("float32") if maps is None else np.asarray(maps, "float32"),
        similarities=np.linspace(0.9, 0.1, count).astype("float32") if similarities is None else similarities,
        identities=np.where(correct, 7, 8),
        form="exact",
    )


class List:
    """The cells of a drawn list of pictures that are shown at ``size``."""

    def __init__(self, drawn, size=(256, 128)):
        self.drawn, self.size = drawn, size

    def at(self, row, left):
        y = MARGIN + LINE + row * (LINE + self.size[0] + 2 * LINE + 4 + GAP)
        return self.drawn[y : y + self.size[0], left : left + self.size[1]]

    def query(self, row=0):
        return self.at(row, MARGIN)

    def entry(self, place, row=0):
        return self.at(row, MARGIN + self.size[1] + APART + place * (self.size[1] + GAP))

    def below(self, place, row=0):
        y = MARGIN + LINE + row * (LINE + self.size[0] + 2 * LINE + 4 + GAP) + self.size[0]
        x = MARGIN + self.size[1] + APART + place * (self.size[1] + GAP)
        return self.drawn[y : y + 2 * LINE, x : x + self.size[1]]


def inside(cell):
    return cell[BORDER:-BORDER, BORDER:-BORDER]


def border(cell):
    kept = np.ones(cell.shape[:2], bool)
    kept[BORDER:-BORDER, BORDER:-BORDER] = False
    return cell[kept]


def overlaid(picture, gradcam, vmax, size=(256, 128), style=None):
    """The overlay, with a note if the map is faint on the scale of its list."""
    drawn = overlay(resized(picture, size), gradcam, vmax, style)
    note = remark(gradcam, vmax)
    return labelled(drawn, note) if note else drawn


def blended(picture, one, top, size=(256, 128)):
    """The same by the oracle; the note is tested by itself."""
    grown = np.repeat(np.repeat(picture, size[0] // len(picture), 0), size[1] // picture.shape[1], 1)
    drawn = np.rint(oracles.overlay(grown, one, top, color_table("inferno"))).astype(np.uint8)
    note = remark(one, top)
    return labelled(drawn, note) if note else drawn


# ---------------------------------------------------------------------------------------------------------- rank_figure


def test_right_entries_are_framed_green_and_wrong_ones_red():
    correct = (True, False, True, False)
    drawn = List(rank_figure(ranked(correct)))
    for place, right in enumerate(correct):
        assert (border(drawn.entry(place)) == (RIGHT if right else WRONG)).all()
        assert (drawn.below(place) == (RIGHT if right else WRONG)).all(-1).any(), "the words have the colour too"
    frames = border(drawn.query())
    assert not (frames == RIGHT).all(-1).any()
    assert not (frames == WRONG).all(-1).any()


def test_every_picture_stands_at_its_place_with_its_map():
    one = ranked()
    drawn = List(rank_figure(one))
    top = one.maps.max()
    for place in range(3):
        expected = blended(one.pictures[place], one.maps[place], top)
        np.testing.assert_allclose(inside(drawn.entry(place)), inside(expected), atol=1)
    np.testing.assert_allclose(drawn.query(), blended(one.query, one.query_map, one.query_map.max()), atol=1)
    assert drawn.drawn.shape == (2 * MARGIN + LINE + 256 + 2 * LINE + 4, 2 * MARGIN + 128 + APART + 3 * 136 - GAP, 3)
    assert drawn.drawn.dtype == np.uint8


def test_the_maps_of_a_list_share_one_scale_and_the_query_has_its_own():
    """A list whose maps are 1, 1/2 and 0; a query whose map is 100 times as large."""
    maps = np.ones((3, 4, 2)) * np.array([1.0, 0.5, 0.0])[:, None, None]
    one = ranked(maps=maps)
    one.query_map[:] = 100.0
    drawn = List(rank_figure(one))
    for place in range(2):
        expected = blended(one.pictures[place], one.maps[place], 1.0)
        np.testing.assert_allclose(inside(drawn.entry(place)), inside(expected), atol=1)
    np.testing.assert_array_equal(
        drawn.entry(2)[BORDER:200, BORDER:-BORDER], resized(one.pictures[2], (256, 128))[BORDER:200, BORDER:-BORDER]
    )
    np.testing.assert_allclose(drawn.query(), blended(one.query, one.query_map, 100.0), atol=1)


def test_several_lists_are_rows_and_shorter_ones_leave_paper():
    lists = [ranked((True,), seed=1), ranked((False, True, False), seed=2), ranked((True, True), seed=3)]
    drawn = List(rank_figure(lists))
    for row, one in enumerate(lists):
        np.testing.assert_allclose(drawn.query(row), blended(one.query, one.query_map, one.query_map.max()), atol=1)
        for place in range(3):
            cell = drawn.entry(place, row)
            if place < len(one.correct):
                assert (border(cell) == (RIGHT if one.correct[place] else WRONG)).all()
                expected = blended(one.pictures[place], one.maps[place], one.maps.max())
                np.testing.assert_allclose(inside(cell), inside(expected), atol=1)
            else:
                assert (cell == PAPER).all()
    assert rank_figure(tuple(lists)).shape == drawn.drawn.shape


def test_a_list_of_one_entry_is_drawn():
    drawn = List(rank_figure(ranked((False,))))
    assert (border(drawn.entry(0)) == WRONG).all()
    assert drawn.drawn.shape[1] == 2 * MARGIN + 2 * 128 + APART


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_maps_without_anything_to_show_leave_the_pictures(value):
    one = ranked(maps=np.full((3, 4, 2), value))
    one.query_map[:] = value
    drawn = List(rank_figure(one))
    for place in range(3):
        # At the foot there may be words.
        np.testing.assert_array_equal(
            drawn.entry(place)[BORDER:230, BORDER:-BORDER],
            resized(one.pictures[place], (256, 128))[BORDER:230, BORDER:-BORDER],
        )
    np.testing.assert_array_equal(drawn.query()[:230], resized(one.query, (256, 128))[:230])


@pytest.mark.parametrize(
    ("size", "grid", "shown"),
    [
        ((64, 32), (1, 1), (256, 128)),
        ((1, 1), (1, 1), (256, 256)),
        ((2, 1), (2, 1), (256, 128)),
        ((256, 128), (16, 8), (256, 128)),
        ((200, 100), (7, 4), (200, 100)),
        ((512, 128), (3, 3), (256, 64)),
    ],
)
def test_pictures_and_grids_of_all_sizes_are_drawn(size, grid, shown):
    one = ranked(size=size, grid=grid)
    drawn = List(rank_figure(one), shown)
    for place in range(3):
        expected = overlaid(one.pictures[place], one.maps[place], float(one.maps.max()), shown)
        np.testing.assert_array_equal(inside(drawn.entry(place)), inside(expected))
        assert (border(drawn.entry(place)) == (RIGHT if one.correct[place] else WRONG)).all()


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_grey_pictures_and_those_with_four_channels_are_drawn(channels):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (4, 64, 32)).astype("uint8")
    given = {None: grey, 1: grey[..., None], 4: np.repeat(grey[..., None], 4, -1)}[channels]
    plain = ranked(maps=np.zeros((3, 4, 2)))
    one = RankList(**{**vars(plain), "query": given[0], "pictures": given[1:]})
    drawn = List(rank_figure(one))
    for place in range(3):
        expected = resized(np.repeat(grey[place + 1][..., None], 3, -1), (256, 128))
        np.testing.assert_array_equal(
            drawn.entry(place)[BORDER:230, BORDER:-BORDER], expected[BORDER:230, BORDER:-BORDER]
        )


def test_pictures_as_a_model_takes_them_are_turned_into_colours():
    """From -1 to 1, the query on the scale of its list."""
    plain = ranked(maps=np.zeros((3, 4, 2)))
    values = np.array([0.0, -1.0, 1.0, 0.5], "float32")
    given = np.ones((4, 64, 32, 3), "float32") * values[:, None, None, None]
    drawn = List(rank_figure(RankList(**{**vars(plain), "query": given[0], "pictures": given[1:]})))
    assert [int(drawn.entry(place)[100, 64, 0]) for place in range(3)] == [0, 255, 191]


def test_the_style_is_followed():
    one = ranked()
    grey = List(rank_figure(one, Style(colormap="gray")))
    expected = overlaid(one.pictures[0], one.maps[0], float(one.maps.max()), style=Style("gray"))
    np.testing.assert_array_equal(inside(grey.entry(0)), inside(expected))


@pytest.mark.parametrize("size", [(64, 32), (64, 64), (512, 128)])
def test_a_list_says_what_its_maps_are(size):
    """Faintly, in the line below the identity of the query; the rest of the picture is the same."""
    exact = ranked(size=size)
    gradient = RankList(**{**vars(exact), "form": "gradient"})
    one, other = rank_figure(exact).astype(int), rank_figure(gradient).astype(int)
    height, width = cell_size(*size)
    y = MARGIN + LINE + height + LINE
    for drawn in (one, other):
        words = drawn[y : y + LINE, MARGIN : MARGIN + width + APART]
        assert words.min() == FAINT[0]
        assert (words[:, -GAP:] == PAPER).all(), "the first of the list keeps its distance"
    one[y : y + LINE, : MARGIN + width + APART] = other[y : y + LINE, : MARGIN + width + APART] = 0
    np.testing.assert_array_equal(one, other)


def test_a_distance_stands_without_its_minus_sign():
    near = ranked(similarities=np.array([-0.25, -1.5, -0.0], np.float32))
    assert [_score(RankList(**{**vars(near), "metric": "euclidean"}), place) for place in range(3)] == [
        "0.250 apart",
        "1.500 apart",
        "0.000 apart",
    ]
    assert _score(near, 0) == "-0.250"


def test_no_list_is_refused():
    with pytest.raises(ValueError, match="`lists` must hold at least one"):
        rank_figure([])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.integers(1, 70), st.integers(1, 5), st.integers(1, 5))
def test_any_list_can_be_drawn(count, height, width, rows, columns):
    drawn = rank_figure(ranked((True,) * count, (height, width), (rows, columns)))
    assert drawn.ndim == 3
    assert (drawn == RIGHT).all(-1).any()


# --------------------------------------------------------------------------------------------------------- pair_figure


def paired(matrix) -> SimilarityMaps:
    matrix = np.asarray(matrix, "float32")
    return SimilarityMaps(matrix.sum((1, 2, 3, 4)), matrix.sum((3, 4)), matrix.sum((1, 2)), matrix=matrix, layer="conv")


def matches(*found, count=1, grid=(4, 2)) -> SimilarityMaps:
    """One pair of pictures whose cells match as told: (cell, cell, share)."""
    matrix = np.zeros((count, *grid, *grid))
    for one, other, share in found:
        matrix[0][(*one, *other)] = share
    return paired(matrix)


class Pair:
    """The parts of a drawn pair of pictures of people, (64, 32)."""

    height, width = 256, 128

    def __init__(self, drawn):
        self.drawn = drawn

    def row(self, row):
        return MARGIN + LINE + row * (2 * LINE + self.height + 4 + GAP)

    def left(self, row=0):
        return self.drawn[self.row(row) : self.row(row) + self.height, MARGIN : MARGIN + self.width]

    def right(self, row=0):
        x = MARGIN + self.width + BETWEEN
        return self.drawn[self.row(row) : self.row(row) + self.height, x : x + self.width]

    def between(self, row=0):
        x = MARGIN + self.width
        return self.drawn[self.row(row) : self.row(row) + self.height, x : x + BETWEEN]

    def crossings(self, column, row=0):
        """Where lines cross a column of what is between the pictures: (first, last) row of each."""
        red, _, blue = np.moveaxis(self.between(row)[:, column].astype(int), -1, 0)
        hit = blue - red > (LINK[2] - LINK[0]) / 2  # paper and rims are grey, and edges are mixed with them
        starts = np.flatnonzero(hit & ~np.r_[False, hit[:-1]])
        ends = np.flatnonzero(hit & ~np.r_[hit[1:], False])
        return list(zip(starts.tolist(), ends.tolist(), strict=True))


A, B = pictures(1, seed=5), pictures(1, seed=6)


@pytest.mark.parametrize("exchanged", [False, True])
def test_both_pictures_stand_at_their_place_with_their_maps_on_one_scale(exchanged):
    """The largest value is in the one map or in the other."""
    matrix = np.random.default_rng(0).normal(size=(1, 4, 2, 4, 2))
    maps = paired(matrix.transpose(0, 3, 4, 1, 2) if exchanged else matrix)
    drawn = Pair(pair_figure(A, B, maps, count=0))
    top = max(maps.map_a.max(), maps.map_b.max())
    np.testing.assert_allclose(drawn.left(), blended(A[0], maps.map_a[0], top), atol=1)
    np.testing.assert_allclose(drawn.right(), blended(B[0], maps.map_b[0], top), atol=1)
    assert drawn.drawn.shape == (2 * MARGIN + 2 * LINE + 256 + 4, 2 * MARGIN + 2 * 128 + BETWEEN, 3)


def test_a_line_joins_the_middles_of_two_cells():
    """From cell (0, 1) to cell (3, 0): rows 32 and 224 of 256, columns 96 of the first and 32 of the second."""
    drawn = Pair(pair_figure(A, B, matches(((0, 1), (3, 0), 0.5))))
    start, end = (MARGIN + 96, 32), (MARGIN + 128 + BETWEEN + 32, 224)
    for column in (5, 48, 90):
        (crossing,) = drawn.crossings(column)
        along = (MARGIN + 128 + column - start[0]) / (end[0] - start[0])
        assert np.mean(crossing) == pytest.approx(start[1] + along * (end[1] - start[1]), abs=2)
    for cell, (y, x) in ((drawn.left(), (32, 96)), (drawn.right(), (224, 32))):
        assert (cell[y, x] == LINK).all(), "a dot at either end"
    assert not (drawn.left()[:, :85] == LINK).all(-1).any()
    assert not (drawn.right()[:, 45:] == LINK).all(-1).any()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_lines_between_the_same_rows_part_half_way(count):
    """All would run along row 96 of 256; the ends stay where they are."""
    found = [((1, one), (1, (one + 1) % 4), 0.9 - one / 10) for one in range(count)]
    drawn = pair_figure(A, B, matches(*found, grid=(4, 4)))
    lines = [np.mean(crossing) for crossing in Pair(drawn).crossings(48)]
    expected = 96 + 9 * (np.arange(count) - (count - 1) / 2)
    np.testing.assert_allclose(lines, expected, atol=1)
    for (_, one), (_, other), _ in found:
        for column in (MARGIN + 32 * one + 16, MARGIN + 128 + BETWEEN + 32 * other + 16):
            assert (drawn[MARGIN + LINE + 96, column] == LINK).all()


def test_many_lines_between_the_same_rows_stay_together():
    """Twelve along row 32, in lanes 36 pixels wide in all."""
    matrix = np.zeros((1, 1, 12, 1, 12))
    matrix[0, 0, np.arange(12), 0, np.arange(12)] = 0.5
    a = pictures(1, (64, 192))
    drawn = pair_figure(a, a, paired(matrix), count=12)
    between = drawn[MARGIN + LINE :, MARGIN + 192 + BETWEEN // 2]
    (rows,) = np.nonzero((between[:64] != PAPER).any(-1))
    assert rows.min() >= 32 - 18 - 3
    assert rows.max() <= 32 + 18 + 3


def test_lines_that_run_apart_or_cross_are_straight():
    crossing = matches(((0, 0), (3, 0), 0.8), ((3, 0), (0, 0), 0.8))
    lines = Pair(pair_figure(A, B, crossing)).crossings(20)
    # From column 32 of the one to column 32 of the other picture, 224 pixels on: this is after 116 of them.
    np.testing.assert_allclose(
        [np.mean(line) for line in lines], [32 + 192 * (1 - 116 / 224), 32 + 192 * 116 / 224], atol=2
    )


def test_the_ends_of_lines_are_dots_with_a_dark_rim_that_no_line_covers():
    """On maps of the brightest colour; a stronger line runs over an end of a weaker one."""
    bright = np.ones((1, 4, 2))
    matrix = np.zeros((1, 4, 2, 4, 2))
    matrix[0, 1, 0, 1, 1], matrix[0, 1, 1, 1, 0] = 0.9, 0.1
    drawn = Pair(pair_figure(A, B, SimilarityMaps(np.ones(1), bright, bright, matrix, "conv")))
    for picture in (drawn.left(), drawn.right()):
        for x in (32, 96):
            assert (picture[95:98, x - 1 : x + 2] == LINK).all()
            rim = np.concatenate([picture[[92, 100], x], picture[96, [x - 4, x + 4]]])
            assert (rim < 60).all()


def test_there_are_as_many_lines_as_asked_for_and_the_strongest_are_the_widest():
    maps = matches(((0, 0), (0, 0), 0.8), ((1, 0), (1, 0), 0.4), ((2, 0), (2, 0), 0.1), ((3, 0), (3, 0), -0.9))
    middles = [32, 96, 160]
    for count in (0, 1, 2, 3, 10):
        crossings = Pair(pair_figure(A, B, maps, count=count)).crossings(48)
        assert len(crossings) == min(count, 3), "nothing speaks for the fourth"
        for crossing, middle in zip(crossings, middles, strict=False):
            assert np.mean(crossing) == pytest.approx(middle, abs=1)
    widths = [last - first + 1 for first, last in Pair(pair_figure(A, B, maps)).crossings(48)]
    assert widths[0] == 3
    assert widths[0] > widths[1] > widths[2] >= 1


def test_without_lines_there_is_paper_between_the_pictures():
    exact = matches(((0, 0), (0, 0), 0.8))
    gradient = SimilarityMaps(exact.similarity, exact.map_a, exact.map_b, None, "conv")
    for maps, count in ((exact, 0), (gradient, 5), (matches(), 5)):
        drawn = Pair(pair_figure(A, B, maps, count=count))
        assert (drawn.between() == PAPER).all()
        assert not (drawn.drawn == LINK).all(-1).any()
    assert (Pair(pair_figure(A, B, exact)).between() != PAPER).any()


def test_lines_leave_the_pictures_beside_them_as_they_are():
    maps = matches(((3, 1), (3, 0), 1.0))
    with_line, without = (Pair(pair_figure(A, B, maps, count=count)) for count in (1, 0))
    np.testing.assert_array_equal(with_line.left()[:200], without.left()[:200])
    np.testing.assert_array_equal(with_line.right()[:, 60:], without.right()[:, 60:])


def test_several_pairs_are_rows():
    a, b = pictures(3, seed=1), pictures(3, seed=2)
    matrix = np.zeros((3, 4, 2, 4, 2))
    matrix[0, 0, 0, 0, 0] = matrix[1, 1, 0, 1, 0] = matrix[2, 3, 1, 3, 1] = 0.5
    drawn = Pair(pair_figure(a, b, paired(matrix)))
    for row, middle in enumerate((32, 96, 224)):
        (crossing,) = drawn.crossings(48, row)
        assert np.mean(crossing) == pytest.approx(middle, abs=1)
        maps = paired(matrix)
        # No map reaches the corner opposite to its match.
        corner = (slice(-30, None), slice(0, 30)) if row < 2 else (slice(0, 30), slice(0, 30))
        np.testing.assert_array_equal(drawn.left(row)[corner], resized(a[row], (256, 128))[corner])
        assert maps.similarity[row] == 0.5


def test_single_pictures_are_a_pair():
    maps = matches(((0, 0), (0, 0), 0.8))
    np.testing.assert_array_equal(pair_figure(A[0], B[0], maps), pair_figure(A, B, maps))


def test_the_taken_pair_of_many_is_drawn():
    matrix = np.random.default_rng(0).normal(size=(3, 4, 2, 4, 2))
    a, b = pictures(3, seed=1), pictures(3, seed=2)
    maps = paired(matrix)
    np.testing.assert_array_equal(pair_figure(a[1], b[1], maps[1]), pair_figure(a[1:2], b[1:2], paired(matrix[1:2])))


def test_pictures_and_grids_of_different_size_stand_side_by_side():
    """A person of 256 x 128 beside a square of 252 x 252 pixels on another grid."""
    square = pictures(1, (28, 28))
    matrix = np.zeros((1, 4, 2, 3, 3))
    matrix[0, 0, 0, 2, 2] = 0.5
    drawn = pair_figure(A, square, paired(matrix))
    assert drawn.shape == (2 * MARGIN + 2 * LINE + 256 + 4, 2 * MARGIN + 128 + BETWEEN + 252, 3)
    x = MARGIN + 128 + BETWEEN + 210
    assert (drawn[MARGIN + LINE + 210, x] == LINK).all(), "the middle of the last cell, 5/6 along"
    assert (drawn[MARGIN + LINE + 32, MARGIN + 32] == LINK).all()


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 32), (1, 1)), ((1, 1), (1, 1)), ((2, 2), (1, 2)), ((64, 32), (16, 8))]
)
@pytest.mark.parametrize("value", [0.0, 0.3, -0.3, np.nan])
def test_pairs_of_all_sizes_and_values_are_drawn(size, grid, value):
    a, b = pictures(2, size, 1), pictures(2, size, 2)
    drawn = pair_figure(a, b, paired(np.full((2, *grid, *grid), value)))
    has_lines = (drawn == LINK).all(-1).any()
    assert has_lines == (value > 0)


@pytest.mark.parametrize(("a", "b"), [(2, 1), (1, 2), (2, 2)])
def test_a_picture_for_every_map_is_needed(a, b):
    with pytest.raises(ValueError, match=f"one picture per map. Received: {a}, {b} and 1"):
        pair_figure(pictures(a), pictures(b), matches())


def test_a_query_of_another_size_than_its_list_is_drawn():
    other = ranked()
    one = RankList(**{**vars(other), "query": pictures(1, (48, 48))[0]})
    drawn = rank_figure(one)
    assert (drawn == RIGHT).all(-1).any()
