"""Imports rows of names that depend on their number alone, and looks for them.

import_rows.py HOST:PORT import ROWS    sends requests of ROWS rows without end, four ahead of the answers; prints the number of rows that
                                        were acknowledged, after each answer. It ends when the bridge does.
import_rows.py HOST:PORT look ROWS      prints how many of the first ROWS rows are known whole, by each of their names
"""

import hashlib
import itertools
import sys
import threading

import grpc

from reflected import Server

NAMES = "p2pbridge.v1.NameService"
TTH, ED2K, SHA1 = 6, 4, 7
LENGTHS = {TTH: 24, ED2K: 16, SHA1: 20}
server, what, rows = Server(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def names(row):
    digest = hashlib.sha512(str(row).encode()).digest()
    return {scheme: digest[at : at + LENGTHS[scheme]] for at, scheme in enumerate(LENGTHS)}


def import_rows():
    send, asked, _ = server.method(NAMES, "ImportNames")
    ahead = threading.Semaphore(4)

    def requests():
        for number in itertools.count():
            ahead.acquire()
            request = asked(source="endless")
            for row in range(number * rows, (number + 1) * rows):
                statement = request.rows.add(length=row, title=f"row {row}")
                for scheme, digest in names(row).items():
                    statement.names.add(scheme=scheme, digest=digest)
            yield request

    acknowledged = 0
    try:
        for answer in send(requests()):
            acknowledged += answer.created + answer.extended + answer.known
            print(acknowledged, flush=True)
            ahead.release()
    except grpc.RpcError as error:
        print("ended:", error.code().name, flush=True)
    finally:
        # The thread that makes requests waits for an answer that does not come.
        ahead.release(1_000)


def look():
    send, asked, _ = server.method(NAMES, "Translate")
    known = 0
    for first in range(0, rows, 10_000):
        wanted = [names(row) for row in range(first, min(first + 10_000, rows))]
        for scheme in LENGTHS:
            packed = b"".join(bytes([scheme]) + row[scheme] for row in wanted)
            answer = send(asked(names=packed), timeout=60)
            # Each look at a field of a message copies it.
            packed, counts, at = answer.names, list(answer.counts), 0
            for row, count in zip(wanted, counts, strict=True):
                got = set()
                for _ in range(count):
                    length = LENGTHS[packed[at]]
                    got.add(packed[at + 1 : at + 1 + length])
                    at += 1 + length
                known += got | {row[scheme]} == set(row.values())
    print(known // len(LENGTHS), "of", rows, "whole;", known % len(LENGTHS), "in part")


{"import": import_rows, "look": look}[what]()
