// Worker threads, an HTTP server with a keep-alive client of its own, timers, crypto, garbage.
const { Worker, isMainThread, parentPort } = require('worker_threads');
const crypto = require('crypto');
const http = require('http');
const sha = (text) => crypto.createHash('sha256').update(text).digest('hex');

if (!isMainThread) {
  parentPort.on('message', (text) => {
    for (let k = 0; k < 1000; k++) text = sha(text);
    parentPort.postMessage(text);
  });
} else {
  const workers = [new Worker(__filename), new Worker(__filename)];
  const agent = new http.Agent({ keepAlive: true });
  const server = http.createServer((request, response) => response.end(sha(request.url)));
  const ask = (worker, text) => new Promise((done) => { worker.once('message', done); worker.postMessage(text); });
  const get = (port, path) => new Promise((done, failed) => {
    http.get({ host: '127.0.0.1', port, path, agent }, (r) => { let s = ''; r.on('data', (d) => { s += d; }); r.on('end', () => done(s)); }).on('error', failed);
  });
  server.listen(0, '127.0.0.1', async () => {
    let state = 'start';
    const kept = new Map();
    for (let step = 0; step < 200; step++) {
      const [a, b] = await Promise.all(workers.map((w, n) => ask(w, state + n)));
      state = await get(server.address().port, '/' + a + b);
      kept.set(step, Array.from({ length: 2000 }, (_, k) => state + k));
      if (step > 10) kept.delete(step - 10);
      const before = performance.now();
      await new Promise((done) => { setTimeout(done, 5); });
      if (performance.now() - before > 30000) throw new Error('the clock jumped');
      console.log(`step ${step} ${state}`);
    }
    agent.destroy();
    server.close();
    await Promise.all(workers.map((w) => w.terminate()));
    console.log('end');
  });
}
