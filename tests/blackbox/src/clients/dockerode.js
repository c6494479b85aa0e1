// dockerode, with nothing in the environment but DOCKER_HOST.
const assert = require("node:assert");
const { PassThrough } = require("node:stream");
const Docker = require("dockerode");
const tar = require("tar-stream");

const docker = new Docker();
const alone = { HostConfig: { NetworkMode: "none" } };
const whole = (stream) => new Promise((done, fail) => {
  const parts = [];
  stream.on("data", (part) => parts.push(part)).on("end", () => done(Buffer.concat(parts))).on("error", fail);
});
const status = (code) => (error) => error.statusCode === code;
const packed = (name, text) => {
  const pack = tar.pack();
  pack.entry({ name }, text);
  pack.finalize();
  return pack;
};
/// Both streams of a multiplexed one, when it has ended.
const both = async (stream) => {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => { out.end(); err.end(); });
  return (await Promise.all([whole(out), whole(err)])).map(String);
};

async function server() {
  assert.equal(String(await docker.ping()), "OK");
  const [info, version] = [await docker.info(), await docker.version()];
  assert.equal(info.OSType, "linux");
  assert.match(version.ApiVersion, /^1\.\d+$/);
  assert.ok((await docker.df()).Images.length > 0);
}

async function lifecycle() {
  const [result, box] = await docker.run("busybox", ["sh", "-c", "echo out; exit 3"], new PassThrough().resume(), alone);
  assert.equal(result.StatusCode, 3);
  await box.remove();
  await assert.rejects(box.inspect(), status(404));
  await assert.rejects(docker.createContainer({ Image: "busybox", name: "-bad-" }), status(400));
}

async function attached() {
  const box = await docker.createContainer({
    Image: "busybox", Cmd: ["sh", "-c", "read word; echo got $word; echo bad >&2"], OpenStdin: true, StdinOnce: true, ...alone,
  });
  const stream = await box.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
  const seen = both(stream);
  const end = box.wait({ condition: "next-exit" });
  await box.start();
  stream.write("words\n");
  stream.end();
  assert.equal((await end).StatusCode, 0);
  assert.deepEqual(await seen, ["got words\n", "bad\n"]);
  const log = await box.logs({ follow: true, stdout: true, stderr: true });
  assert.deepEqual(await both(log), ["got words\n", "bad\n"]);
  await box.remove();
}

async function running() {
  const events = await docker.getEvents({ filters: { label: ["purpose=test"] } });
  const seen = [];
  events.on("data", (part) => String(part).split("\n").filter(Boolean).forEach((line) => seen.push(JSON.parse(line).Action)));
  const box = await docker.createContainer({
    Image: "busybox", name: "steady", Cmd: ["sleep", "1000"], Labels: { purpose: "test" }, ...alone,
  });
  await box.start();
  await box.start().then(() => assert.fail("started twice"), status(304)).catch((error) => assert.equal(error.statusCode, 304));
  assert.deepEqual((await docker.listContainers({ filters: { label: ["purpose=test"] } })).map((each) => each.Names), [["/steady"]]);

  const exec = await box.exec({ Cmd: ["sh", "-c", "cat; echo err >&2; exit 4"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({ hijack: true, stdin: true });
  const answer = both(stream);
  stream.end("typed\n");
  assert.deepEqual(await answer, ["typed\n", "err\n"]);
  assert.equal((await exec.inspect()).ExitCode, 4);
  const screen = await box.exec({ Cmd: ["sh", "-c", "sleep 1; stty size"], AttachStdout: true, Tty: true });
  const shown = await screen.start({ Tty: true, hijack: true });
  await screen.resize({ h: 40, w: 100 });
  assert.equal(String(await whole(shown)), "40 100\r\n");

  await box.putArchive(packed("x", "content"), { path: "/tmp" });
  const { name, size } = JSON.parse(Buffer.from((await box.infoArchive({ path: "/tmp/x" })).headers?.["x-docker-container-path-stat"] ?? "", "base64").toString() || "{}");
  assert.deepEqual([name, size], ["x", 7]);
  const extract = tar.extract();
  const files = {};
  extract.on("entry", (header, entry, next) => whole(entry).then((text) => { files[header.name] = String(text); next(); }));
  const unpacked = new Promise((done) => extract.on("finish", done));
  (await box.getArchive({ path: "/tmp/x" })).pipe(extract);
  await unpacked;
  assert.deepEqual(files, { x: "content" });
  assert.ok((await box.changes()).some((change) => change.Path === "/tmp/x" && change.Kind === 1));

  const stats = await box.stats({ stream: false });
  assert.ok(stats.memory_stats.usage > 0 && stats.pids_stats.current >= 1);
  assert.ok((await box.top()).Processes.length >= 1);
  await box.pause();
  assert.equal((await box.inspect()).State.Paused, true);
  await box.unpause();
  await box.rename({ name: "other" });
  await box.update({ PidsLimit: 50 });
  assert.equal((await box.inspect()).HostConfig.PidsLimit, 50);
  const image = await box.commit({ repo: "made", tag: "1" });
  assert.match(image.Id, /^sha256:/);
  await box.restart({ t: 0 });
  await box.kill();
  assert.equal((await box.wait()).StatusCode, 137);
  await box.remove({ v: true });
  await new Promise((done) => setTimeout(done, 200));
  events.destroy();
  for (const wanted of ["create", "start", "pause", "unpause", "rename", "kill", "die", "destroy"]) {
    assert.ok(seen.includes(wanted), `no ${wanted} in ${seen}`);
  }
}

async function networksAndVolumes() {
  const network = await docker.createNetwork({ Name: "wire", Labels: { a: "b" } });
  await assert.rejects(docker.createNetwork({ Name: "wire", CheckDuplicate: true }), status(409));
  const box = await docker.createContainer({ Image: "busybox", Cmd: ["sleep", "1000"], name: "member", HostConfig: { NetworkMode: "bridge", Binds: ["kept:/kept"] } });
  await network.connect({ Container: box.id, EndpointConfig: { Aliases: ["peer"] } });
  await box.start();
  assert.deepEqual(Object.keys((await box.inspect()).NetworkSettings.Networks).sort(), ["bridge", "wire"]);
  assert.equal(Object.values((await network.inspect()).Containers)[0].Name, "member");
  await network.disconnect({ Container: box.id });
  const volume = docker.getVolume("kept");
  assert.equal((await volume.inspect()).Driver, "local");
  await assert.rejects(volume.remove(), status(409));
  await box.remove({ force: true });
  await volume.remove();
  await network.remove();
  assert.deepEqual((await docker.listNetworks({ filters: { type: ["custom"] } })), []);
}

async function images() {
  const image = docker.getImage("busybox");
  await image.tag({ repo: "box", tag: "v1" });
  assert.deepEqual((await docker.listImages({ filters: { reference: ["box:v1"] } })).flatMap((each) => each.RepoTags.filter((tag) => tag.startsWith("box:"))), ["box:v1"]);
  assert.ok((await image.history()).length > 0);
  const archive = await whole(await docker.getImage("box:v1").get());
  await docker.getImage("box:v1").remove();
  const loaded = new PassThrough();
  const progress = await docker.loadImage(loaded.end(archive) ?? loaded);
  const lines = await new Promise((done, fail) => docker.modem.followProgress(progress, (error, all) => (error ? fail(error) : done(all))));
  assert.ok(lines.some((line) => /Loaded image: box:v1/.test(line.stream ?? "")), JSON.stringify(lines));
  // Nobody listens there: an error of the request or a line of the progress, in words.
  const lastOf = (request) => request.then(
    (stream) => new Promise((done) => docker.modem.followProgress(stream, (error, all) => done(error?.message ?? all.at(-1).error))),
    (error) => error.message,
  );
  assert.match(await lastOf(docker.pull("127.0.0.1:1/nosuch:1")), /127\.0\.0\.1:1/);
  // A build fails, and says why: no builder yet, or the instruction.
  assert.match(await lastOf(docker.buildImage(packed("Dockerfile", "FROM busybox\nRUN false\n"), { t: "built" })), /build|false/i);
}

(async () => {
  for (const part of [server, lifecycle, attached, running, networksAndVolumes, images]) {
    const began = Date.now();
    await part().catch((error) => { throw new Error(part.name, { cause: error }); });
    console.error(part.name, Date.now() - began, "ms");
  }
  console.log("all well");
  // Answers that nobody has read would keep us.
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
