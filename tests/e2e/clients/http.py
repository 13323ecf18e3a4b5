# http.py requests|httpx: the same calls with either library.
import importlib, sys
from concurrent.futures import ThreadPoolExecutor

library = importlib.import_module(sys.argv[1])
client = library.Session() if sys.argv[1] == "requests" else library.Client(follow_redirects=True)
base = "http://httpbin.org"

answer = client.get(base + "/get", params={"name": "value"})
print("get", answer.status_code, answer.json()["args"]["name"])

def pieces():
    for _ in range(100):
        yield b"x" * 1000

body = {"data" if sys.argv[1] == "requests" else "content": pieces()}
answer = client.post(base + "/post", **body)
print("post", answer.status_code, len(answer.json()["data"]))
print("status", client.get(base + "/status/418").status_code)
answer = client.get(base + "/redirect/2")
print("redirect", answer.status_code, str(answer.url).removeprefix(base))
answer = client.get(base + "/stream/20")
print("stream", answer.status_code, len(answer.text.splitlines()))
with ThreadPoolExecutor(20) as pool:
    answers = pool.map(lambda n: library.get(f"{base}/anything/{n}").json()["url"], range(20))
    print("parallel", len(set(answers)))
