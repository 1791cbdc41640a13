"""Posts orders on 8 connections until the server goes; writes acknowledged ids to a file.

usage: orders_load.py PORT term|kill FILE
term: the server drains, so a request that was sent whole on a live connection may fail only with a
closed connection and no byte of an answer (the idle close can cross the request) or with 503.
"""
import http.client
import json
import sys
import threading

port, mode, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
acks = open(path, "w", buffering=1)
lock = threading.Lock()
wrong = []
order = json.dumps({"customer": 1, "item": "load", "quantity": 1, "price_cents": 1})


def post_until_gone():
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    while True:
        try:
            c.request("POST", "/orders", order)
            r = c.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):
            return
        except (OSError, http.client.HTTPException) as e:
            wrong.append("no answer: %r" % e)
            return
        try:
            body = r.read()
        except (OSError, http.client.HTTPException) as e:
            wrong.append("half an answer: %r" % e)
            return
        if r.status == 201:
            with lock:
                acks.write("%d\n" % json.loads(body)["id"])
        elif r.status != 503:
            wrong.append("status %d: %r" % (r.status, body))
            return


threads = [threading.Thread(target=post_until_gone) for _ in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
acks.close()
print("\n".join(wrong))
sys.exit(1 if wrong and mode == "term" else 0)
