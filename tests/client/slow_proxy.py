"""A TCP door before a hub that lets bytes through at a given speed, and counts those of answers and requests."""
import socket, threading, time


class SlowProxy:
    def __init__(self, port, bytes_per_second, piece=16384):
        self.target, self.speed, self.piece, self.received, self.sent = port, bytes_per_second, piece, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self.pump, args=(client, server, "sent"), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, "received"), daemon=True).start()

    def pump(self, source, sink, counter):
        try:
            while part := source.recv(self.piece):
                setattr(self, counter, getattr(self, counter) + len(part))
                time.sleep(len(part) / self.speed)
                sink.sendall(part)
        except OSError:
            pass
        for side in (source, sink):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()
