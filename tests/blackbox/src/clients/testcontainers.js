// testcontainers for Node: its modules for services, its ways to wait, its networks, copies, and its reaper, which has to clean up
// after us: nothing is stopped at the end.
const assert = require("node:assert");
const { GenericContainer, Network, Wait } = require("testcontainers");
const { RedisContainer } = require("@testcontainers/redis");
const { PostgreSqlContainer } = require("@testcontainers/postgresql");
const { createClient } = require("redis");
const { Client } = require("pg");

(async () => {
  const network = await new Network().start();
  const [redis, postgres] = await Promise.all([
    new RedisContainer("redis:7").withNetwork(network).withNetworkAliases("cache").start(),
    // The test image knows the superuser only.
    new PostgreSqlContainer("postgres:15").withUsername("postgres").withDatabase("postgres").start(),
  ]);
  const cache = createClient({ url: redis.getConnectionUrl() });
  await cache.connect();
  await cache.set("a", "b");
  assert.equal(await cache.get("a"), "b");
  assert.match(await redis.executeCliCmd("ping"), /PONG/);
  await cache.quit();
  const database = new Client({ connectionString: postgres.getConnectionUri() });
  await database.connect();
  assert.equal((await database.query("select 6 * 7 as answer")).rows[0].answer, 42);
  await database.end();

  const box = await new GenericContainer("busybox")
    .withNetwork(network)
    .withCopyContentToContainer([{ content: "page\n", target: "/www/index.html" }])
    .withCommand(["sh", "-c", "sleep 0.3; echo ready; exec httpd -f -p 80 -h /www"])
    .withExposedPorts(80)
    .withWaitStrategy(Wait.forAll([Wait.forLogMessage("ready"), Wait.forHttp("/", 80), Wait.forSuccessfulCommand("test -f /www/index.html")]))
    .start();
  assert.equal(await (await fetch(`http://${box.getHost()}:${box.getMappedPort(80)}/`)).text(), "page\n");
  const { exitCode, stdout, stderr } = await box.exec(["sh", "-c", "ping -c 1 cache >/dev/null && echo found; echo bad >&2; exit 5"]);
  assert.deepEqual([exitCode, stdout, stderr], [5, "found\n", "bad\n"]);
  const once = await new GenericContainer("busybox").withCommand(["true"]).withWaitStrategy(Wait.forOneShotStartup()).start();
  await once.stop();
  await assert.rejects(new GenericContainer("busybox").withCommand(["false"]).withWaitStrategy(Wait.forOneShotStartup()).start());
  console.log("all well");
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
