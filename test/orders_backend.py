"""A back end for orders_e2e_test.sh: GET /quote/N, kept alive, with some bad answers."""
import http.server
import time


class Quotes(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        n = int(self.path.rsplit("/", 1)[1])
        status = {404: 404, 500: 500}.get(n, 200)
        if n == 1000:
            time.sleep(3)
        # 666: the answer to another question
        body = b'{"id":%d,"price":%d}' % (n + (n == 666), 1000 + n)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if n == 321:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the caller's time was up

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quotes)
server.daemon_threads = True
print("listening on 127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
