# websocket_echo.py serve ADDRESS:PORT | call URL
import asyncio, sys, websockets

async def shout(connection):
    async for message in connection:
        await connection.send(message.upper())

async def serve(address):
    host, port = address.rsplit(":", 1)
    async with websockets.serve(shout, host, int(port), compression=None):
        print("ready", flush=True)
        await asyncio.Future()

async def call(url):
    async with websockets.connect(url, compression=None, proxy=None) as connection:
        await connection.send("hello")
        print(await connection.recv())
        await connection.send("x" * 200_000)
        print(len(await connection.recv()))
        await (await connection.ping())
        print("pong")
    print("closed", connection.close_code)

asyncio.run({"serve": serve, "call": call}[sys.argv[1]](sys.argv[2]))
