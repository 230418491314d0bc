"""A TensorBoard application with the tab, in this process."""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.data import server_ingester
from tensorboard.plugins import base_plugin
from tensorboard.util import grpc_util
from werkzeug.test import Client

from keras_gradcam.tensorboard_plugin.loader import Loader
from keras_gradcam.tensorboard_plugin.wire import unpack

with warnings.catch_warnings():  # TensorBoard's own
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.backend import application
    from tensorboard.plugins.core import core_plugin

PREFIX = "/data/plugin/gradcam"

both_loaders = pytest.mark.parametrize("loader", ["fast", "slow"])


def complete(server, run="a/gradcam", last=4):
    """Tells whether a server has read a run to its last epoch."""
    listed = server.runs().get(run)
    return listed is not None and listed["last_epoch"] == last


def fixed_flags(text=""):
    flags = argparse.Namespace(samples_per_plugin=core_plugin._parse_samples_per_plugin(text))
    Loader().fix_flags(flags)
    return flags.samples_per_plugin


class Server:
    """TensorBoard's application over one log directory."""

    def __init__(self, logdir, loader, samples=""):
        self.ingester = None
        if loader == "slow":
            multiplexer = plugin_event_multiplexer.EventMultiplexer(
                tensor_size_guidance=fixed_flags(samples), purge_orphaned_data=True
            )
            multiplexer.AddRunsFromDirectory(str(logdir))
            multiplexer.Reload()
            self.provider = data_provider.MultiplexerDataProvider(multiplexer, str(logdir))
        else:
            self.ingester = server_ingester.SubprocessServerDataIngester(
                server_binary=server_ingester.get_server_binary(), logdir=str(logdir), reload_interval=0,
                channel_creds_type=grpc_util.ChannelCredsType.LOCAL,
                samples_per_plugin=fixed_flags(samples),
            )  # fmt: skip
            with warnings.catch_warnings():  # it leaves its process and its folder to the garbage collector
                warnings.simplefilter("ignore", ResourceWarning)
                self.ingester.start()
            self.provider = self.ingester.data_provider
        context = base_plugin.TBContext(data_provider=self.provider, logdir=str(logdir))
        self.plugin = Loader().load(context)
        wsgi = application.TensorBoardWSGI([self.plugin], data_provider=self.provider)
        self.client = Client(wsgi)

    def get(self, path, status=200, headers=None, **query):
        response = self.client.get(PREFIX + path, query_string=query, headers=headers)
        assert response.status_code == status, response.get_data()[:300]
        return response

    def runs(self):
        return {run["name"]: run for run in self.get("/runs").get_json()["runs"]}

    def series(self, route, run):
        header, parts = unpack(self.get(route, run=run).get_data())
        arrays = {}
        for (step, size, *shape), part in zip(header["frames"], parts, strict=True):
            arrays[step] = np.frombuffer(part, "<f2" if size == 2 else "<f4").reshape(shape)
        return arrays, header["unreadable"]

    def wait_for(self, condition):
        """The data server reads on its own time."""
        for _ in range(500):
            if condition(self):
                return
            time.sleep(0.02)
        raise AssertionError("the data did not arrive")

    def close(self):
        if self.ingester is not None:
            # TensorBoard leaves this to the end of the process.
            self.ingester._stdin_handle.close()
            self.provider._stub = None
