"""Threads that connect to addresses in turn: ADDRESS:PORT=NAME… on standard input.

Counts who answered with another name, who had another peer address, and who failed.
"""

import socket
import sys
import threading

threads, each = int(sys.argv[1]), int(sys.argv[2])
targets = []
for line in sys.stdin:
    where, name = line.strip().split("=")
    address, port = where.rsplit(":", 1)
    targets.append(((address, int(port)), name))
wrong, failed = [], []


def run(first):
    for turn in range(each):
        target, name = targets[(first * each + turn) % len(targets)]
        try:
            with socket.create_connection(target, timeout=30) as sock:
                answer = sock.makefile().readline().strip()
                if answer != name or sock.getpeername() != target:
                    wrong.append((target, answer, sock.getpeername()))
        except OSError as error:
            failed.append((target, error))


workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print("wrong", len(wrong), "failed", len(failed), "of", threads * each)
for what in wrong[:5] + failed[:5]:
    print(what, file=sys.stderr)
