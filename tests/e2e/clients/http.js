// The calls of http.py with Node's fetch.
const base = "http://httpbin.org";
(async () => {
  let answer = await fetch(base + "/get?name=value");
  console.log("get", answer.status, (await answer.json()).args.name);
  const pieces = async function* () { for (let n = 0; n < 100; n++) yield Buffer.alloc(1000, "x"); };
  answer = await fetch(base + "/post", { method: "POST", body: pieces(), duplex: "half" });
  console.log("post", answer.status, (await answer.json()).data.length);
  answer = await fetch(base + "/status/418");
  await answer.text();
  console.log("status", answer.status);
  answer = await fetch(base + "/redirect/2");
  await answer.text();
  console.log("redirect", answer.status, answer.url.slice(base.length));
  answer = await fetch(base + "/stream/20");
  console.log("stream", answer.status, (await answer.text()).trim().split("\n").length);
  const all = await Promise.all([...Array(20).keys()].map(
    async (n) => (await (await fetch(`${base}/anything/${n}`)).json()).url));
  console.log("parallel", new Set(all).size);
})();
