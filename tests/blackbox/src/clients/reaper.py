"""What testcontainers' reaper does, as its clients see it: reads filters, a line each, says ACK, and removes what they match
through the socket that it was given when the last client has gone for a while."""
import http.client
import json
import os
import select
import signal
import socket
import sys
import time
import urllib.parse


class Engine(http.client.HTTPConnection):
    """HTTP over the socket that is mounted into the container."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")


def ask(method, path, **query):
    connection = Engine("docker", timeout=20)
    connection.request(method, path + "?" + urllib.parse.urlencode(query))
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status < 300, (method, path, answer.status, content)
    return json.loads(content) if content else None


def prune(notes):
    for note in notes:
        for box in ask("GET", "/v1.44/containers/json", all=1, filters=note):
            if box["Labels"].get("org.testcontainers.ryuk") != "true":
                ask("DELETE", "/v1.44/containers/" + box["Id"], force=1, v=1)
        ask("POST", "/v1.44/networks/prune", filters=note)
        ask("POST", "/v1.44/volumes/prune", filters=json.dumps({**json.loads(note), "all": ["true"]}))
        ask("POST", "/v1.44/images/prune", filters=note)


def main():
    # How long in Go's words: `10s`.
    patience = float(os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s").rstrip("s"))
    ask("GET", "/v1.44/info")
    listener = socket.create_server(("", 8080))
    print(time.strftime("%Y/%m/%d %H:%M:%S") + " Started!", flush=True)
    clients, notes, deadline = {}, set(), time.monotonic() + 60
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    while not told and (clients or time.monotonic() < deadline):
        for ready in select.select([listener, *clients], [], [], 0.1)[0]:
            if ready is listener:
                clients[listener.accept()[0]] = b""
                continue
            try:
                words = ready.recv(4096)
            except ConnectionError:
                words = b""
            *lines, clients[ready] = (clients[ready] + words).split(b"\n")
            for line in filter(None, (line.strip() for line in lines)):
                notes.add(json.dumps(urllib.parse.parse_qs(line.decode())))
                ready.sendall(b"ACK\n")
            if not words:
                del clients[ready]
                ready.close()
                deadline = time.monotonic() + patience
    prune(notes)
    print("pruned", *notes, flush=True)


sys.exit(main())
