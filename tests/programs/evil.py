"""A seeder that misbehaves: evil.py corrupt|vanish|silent PORT TORRENT DIR.

It announces itself to the torrent's HTTP or UDP tracker as a seeder, through libtorrent's bencoding only, and serves from raw sockets:
corrupt: every block of every third piece is wrong; vanish: ends after 16 blocks and is gone; silent: takes connections and says nothing.
"""

import os
import socket
import struct
import sys
import threading
import urllib.parse
import urllib.request

import libtorrent as lt

manner, port, path, root = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
torrent = lt.torrent_info(path)
info_hash = torrent.info_hash().to_bytes()
with open(os.path.join(root, torrent.name()), "rb") as file:
    data = file.read()
served = 0
lock = threading.Lock()


def announce():
    url = next(iter(torrent.trackers())).url
    if url.startswith("http"):
        query = f"info_hash={urllib.parse.quote(info_hash, safe='')}&peer_id=-EV0001-{port:012d}&port={port}"
        urllib.request.urlopen(f"{url}?{query}&uploaded=0&downloaded=0&left=0&compact=1&event=started", timeout=10).read()
    else:
        where = urllib.parse.urlparse(url)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.settimeout(10)
        udp.connect((where.hostname, where.port))
        udp.send(struct.pack(">QII", 0x41727101980, 0, 7))
        connection = udp.recv(16)[8:]
        peer_id = f"-EV0001-{port:012d}".encode()
        udp.send(connection + struct.pack(">II", 1, 8) + info_hash + peer_id + struct.pack(">QQQIIIiH", 0, 0, 0, 2, 0, 9, -1, port))
        udp.recv(2048)
    print("announced", flush=True)


def read(stream, count):
    got = b""
    while len(got) < count:
        part = stream.recv(count - len(got))
        if not part:
            raise ConnectionError
        got += part
    return got


def block(piece, offset, length):
    start = piece * torrent.piece_length() + offset
    good = data[start : start + length]
    return bytes(byte ^ 0x55 for byte in good[:64]) + good[64:] if manner == "corrupt" and piece % 3 == 0 else good


def serve(stream):
    global served
    if manner == "silent":
        # Keeps the connection, and says nothing.
        print("silent", flush=True)
        while stream.recv(65536):
            pass
        return
    hello = read(stream, 68)
    if hello[28:48] != info_hash:
        return
    pieces = torrent.num_pieces()
    stream.sendall(hello[:1] + b"BitTorrent protocol" + bytes(8) + info_hash + f"-EV0001-{port:012d}".encode())
    bits = bytearray(b"\xff" * (pieces // 8))
    if pieces % 8:
        bits.append(0xFF << (8 - pieces % 8) & 0xFF)
    stream.sendall(struct.pack(">IB", 1 + len(bits), 5) + bits + struct.pack(">IB", 1, 1))
    while True:
        (size,) = struct.unpack(">I", read(stream, 4))
        message = read(stream, size)
        if size == 13 and message[0] == 6:
            piece, offset, length = struct.unpack(">III", message[1:])
            body = block(piece, offset, length)
            stream.sendall(struct.pack(">IBII", 9 + len(body), 7, piece, offset) + body)
            with lock:
                served += 1
                if served == 1:
                    print("served", flush=True)
                if manner == "vanish" and served == 16:
                    print("vanished", flush=True)
                    os._exit(0)


def guarded(stream):
    try:
        serve(stream)
    except (OSError, struct.error) as error:
        print("closed", type(error).__name__, flush=True)
    finally:
        stream.close()


listener = socket.create_server(("127.0.0.1", port))
announce()
while True:
    connection, address = listener.accept()
    print("connection", address[1], flush=True)
    threading.Thread(target=guarded, args=(connection,), daemon=True).start()
