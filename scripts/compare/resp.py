"""A Redis client of one screen: asks one thing on a connection of its own."""

import socket


class Refused(Exception):
    """The server answered with an error."""


def ask(port, *words, timeout=5.0):
    """Sends one command to a port on loopback; the answer as str, int, list or None.

    Raises Refused on an error reply, OSError where nobody answers in time.
    """
    return ask_all(port, [words], timeout)[0]


def ask_all(port, commands, timeout=5.0):
    """Sends several commands at once; all answers, or what `ask` raises."""
    requests = b"".join(_request(words) for words in commands)
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(requests)
        with connection.makefile("rb") as replies:
            return [_reply(replies) for _ in commands]


def _request(words):
    request = b"*%d\r\n" % len(words)
    for word in words:
        data = word.encode()
        request += b"$%d\r\n%s\r\n" % (len(data), data)
    return request


def _reply(replies):
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the connection broke inside of a reply")
    kind, rest = line[:1], line[1:-2].decode(errors="replace")
    if kind == b"+":
        return rest
    if kind == b"-":
        raise Refused(rest)
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [_reply(replies) for _ in range(int(rest))]
    if kind == b"$":
        length = int(rest)
        if length < 0:
            return None
        data = replies.read(length + 2)
        if len(data) < length + 2:
            raise ConnectionResetError("the connection broke inside of a reply")
        return data[:-2].decode(errors="replace")
    raise ConnectionResetError(f"no reply begins with {line[:20]!r}")
