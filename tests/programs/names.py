"""Names by libtorrent and by hashlib, as lines of JSON.

names.py files FILE…       of each file: {"pieces-root", "ppspp", "ppspp-16k"}; an empty file has none of them
names.py torrent FILE      of a .torrent: its info-hashes, and each file's length, offset, pieces root, and SHA-256 of its piece layer
names.py magnet LINK       what libtorrent reads in a magnet link

The pieces root is libtorrent's. PPSPP's roots are computed here, in plain loops over all leaves: no program for them is in Debian, npm or
PyPI. fixtures/names has roots by PyPPSPP, which nobody here wrote either; this script must give the same.
"""

import hashlib
import json
import os
import sys

import libtorrent as lt

ZERO = bytes(32)


def pieces_root(path):
    storage = lt.file_storage()
    lt.add_files(storage, path)
    torrent = lt.create_torrent(storage, flags=lt.create_torrent.v2_only)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    (entry,) = torrent.generate()[b"info"][b"file tree"].values()
    return entry[b""][b"pieces root"].hex()


def ppspp_root(path, chunk):
    """RFC 7574 §5.2: missing leaves are zero, and so is the parent of two zeros; all other parents are hashes of their children."""
    layer = []
    with open(path, "rb") as file:
        while data := file.read(chunk):
            layer.append(hashlib.sha256(data).digest())
    while len(layer) > 1:
        if len(layer) % 2:
            layer.append(ZERO)
        pairs = zip(layer[::2], layer[1::2])
        layer = [ZERO if left == right == ZERO else hashlib.sha256(left + right).digest() for left, right in pairs]
    return layer[0].hex()


def of_file(path):
    if os.path.getsize(path) == 0:
        return {}
    return {"pieces-root": pieces_root(path), "ppspp": ppspp_root(path, 1024), "ppspp-16k": ppspp_root(path, 16384)}


def hashes(found):
    v1 = found.v1.to_bytes().hex() if found.has_v1() else None
    v2 = found.v2.to_bytes().hex() if found.has_v2() else None
    return {"v1": v1, "v2": v2}


def of_torrent(path):
    with open(path, "rb") as file:
        layers = lt.bdecode(file.read()).get(b"piece layers", {})
    info = lt.torrent_info(path)
    storage, files = info.files(), []
    for index in range(storage.num_files()):
        if storage.file_flags(index) & lt.file_flags_t.flag_pad_file:
            continue
        root = storage.root(index).to_bytes() if info.info_hashes().has_v2() else ZERO
        files.append(
            {
                "path": storage.file_path(index),
                "length": storage.file_size(index),
                "offset": storage.file_offset(index),
                "root": None if root == ZERO else root.hex(),
                "layer": hashlib.sha256(layers[root]).hexdigest() if root in layers else None,
            }
        )
    return {**hashes(info.info_hashes()), "name": info.name(), "piece_length": info.piece_length(), "files": files}


def of_magnet(link):
    params = lt.parse_magnet_uri(link)
    return {**hashes(params.info_hashes), "name": params.name}


what, *rest = sys.argv[1:]
of = {"files": of_file, "torrent": of_torrent, "magnet": of_magnet}[what]
for item in rest:
    print(json.dumps(of(item)), flush=True)
