# grpc_web_echo.py serve ADDRESS:PORT: a gRPC-Web server on HTTP/2 with prior knowledge. It sends the
# message back that it was sent, and the trailers behind it as gRPC-Web has them: a frame of the body.
import socket, sys, threading
import h2.config, h2.connection, h2.events

def serve(peer):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    kinds, bodies = {}, {}
    peer.sendall(connection.data_to_send())
    while data := peer.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = {name.decode() if isinstance(name, bytes) else name:
                           value.decode() if isinstance(value, bytes) else value
                           for name, value in event.headers}
                kinds[event.stream_id] = headers.get("content-type", "")
                bodies[event.stream_id] = b""
            elif isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                stream = event.stream_id
                trailers = b"grpc-status:0\r\n"
                frame = b"\x80" + len(trailers).to_bytes(4, "big") + trailers
                connection.send_headers(stream, [(":status", "200"), ("content-type", kinds[stream])])
                connection.send_data(stream, bodies[stream] + frame, end_stream=True)
        peer.sendall(connection.data_to_send())

host, port = sys.argv[2].rsplit(":", 1)
listener = socket.create_server((host, int(port)))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
