"""One libtorrent session, driven by lines of JSON: commands on standard input, events on standard output.

Commands: {"add": what, "dir": …, "up": bytes/s, "down": bytes/s}   what is the path of a .torrent, or a magnet link
          with "only": name   of a .torrent's files, the one called so is wanted alone
          {"connect": [host, port]}   {"status": true}
          {"scrape": true}   {"announce": true}
Events:   {"event": "listening"} {"event": "added"} {"event": "metadata"} {"event": "finished"} {"event": "status", …}
          {"event": "scraped", "complete": …, "incomplete": …}
"""

import json
import queue
import sys
import threading

import libtorrent as lt

listen = sys.argv[1]
session = lt.session(
    {
        "listen_interfaces": listen,
        # No more than is read here: among all the others are some whose conversion to Python crashes now and then (2.0.8).
        "alert_mask": sum(
            getattr(lt.alert.category_t, f"{kind}_notification") for kind in ("error", "status", "storage", "tracker")
        ),
        # No other way to peers than the tracker.
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        # The bridge speaks TCP.
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        # All peers are at one address here, and nobody has half an hour.
        "allow_multiple_connections_per_ip": True,
        "min_announce_interval": 1,
        "min_reconnect_time": 1,
        "tracker_backoff": 1,
        "stop_tracker_timeout": 1,
    }
)

def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def add(command):
    what = command["add"]
    if what.startswith("magnet:"):
        params = lt.parse_magnet_uri(what)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(what)
    params.save_path = command["dir"]
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if command.get("only"):
        files = params.ti.files()
        names = [files.file_path(file).rsplit("/", 1)[-1] for file in range(files.num_files())]
        params.file_priorities = [4 if name == command["only"] else 0 for name in names]
    handle = session.add_torrent(params)
    # Limits of the torrent hold for local peers also; the session's do not.
    handle.set_upload_limit(command.get("up") or -1)
    handle.set_download_limit(command.get("down") or -1)
    say("added")
    return handle


def status(handle):
    now = handle.status()
    pieces = handle.get_peer_info()
    say(
        "status", progress=now.progress, seeding=now.is_seeding, peers=now.num_peers, downloaded=now.total_payload_download,
        uploaded=now.total_payload_upload, done=now.total_done, failed=now.total_failed_bytes, addresses=[list(peer.ip) for peer in pieces],
    )


def read_commands(commands):
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def main():
    commands = queue.Queue()
    threading.Thread(target=read_commands, args=(commands,), daemon=True).start()
    handle, told, whole = None, False, False
    while True:
        if session.wait_for_alert(20):
            for alert in session.pop_alerts():
                print(type(alert).__name__, alert.message(), file=sys.stderr, flush=True)
                if isinstance(alert, lt.listen_succeeded_alert) and not told:
                    told = True
                    say("listening")
                elif isinstance(alert, lt.metadata_received_alert):
                    say("metadata")
                elif isinstance(alert, lt.scrape_reply_alert):
                    say("scraped", complete=alert.complete, incomplete=alert.incomplete)
                elif isinstance(alert, lt.torrent_finished_alert):
                    # Everything is on disk before it is said.
                    whole = True
                    handle.flush_cache()
                elif isinstance(alert, lt.cache_flushed_alert) and whole:
                    whole = False
                    say("finished")
        while not commands.empty():
            command = commands.get()
            if command is None:
                return
            if "add" in command:
                handle = add(command)
            elif "connect" in command:
                handle.connect_peer(tuple(command["connect"]))
            elif "scrape" in command:
                handle.scrape_tracker()
            elif "announce" in command:
                handle.force_reannounce(0, -1, lt.reannounce_flags_t.ignore_min_interval)
            elif "status" in command:
                status(handle)


main()
