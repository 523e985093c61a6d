"""Makes a .torrent: make_torrent.py v2|hybrid PIECE_LENGTH ANNOUNCE NAME SOURCE OUT."""

import os
import shutil
import sys
import tempfile

import libtorrent as lt

kind, piece, announce, name, source, out = sys.argv[1:7]
# libtorrent takes the torrent's name from the path: give it the source under the wanted name.
with tempfile.TemporaryDirectory() as parent:
    root = os.path.join(parent, name)
    shutil.copytree(source, root) if os.path.isdir(source) else shutil.copy(source, root)
    storage = lt.file_storage()
    lt.add_files(storage, root)
    flags = lt.create_torrent.v2_only if kind == "v2" else 0
    torrent = lt.create_torrent(storage, piece_size=int(piece), flags=flags)
    torrent.add_tracker(announce)
    lt.set_piece_hashes(torrent, parent)
    with open(out, "wb") as file:
        file.write(lt.bencode(torrent.generate()))
