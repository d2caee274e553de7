"""Embedding and reranking models. Whatever is imported from here, the libraries beneath are told first to stay off the
network: some look for their switches as soon as they are loaded."""

import os

from models.offline import OFFLINE

os.environ.update(OFFLINE)
