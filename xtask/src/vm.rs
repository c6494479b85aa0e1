//! `cargo xtask vm`: a throw-away machine with pure cgroup v2, systemd if wanted, and AppArmor or SELinux.
//!
//! The machine is Debian trixie under QEMU's software emulation, as the `/dev/kvm` of build machines is often one under which
//! stock kernels hang. Its disk is made once by [`image`] and never written. The command sees a shared directory at the same
//! path as outside; its input, output, errors and status go through four virtio serial ports.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths::Staging;

mod image;

/// What kind of machine, and for how long.
pub struct Options {
    /// systemd as the first process; otherwise a script that is some seconds faster.
    pub systemd: bool,
    /// `root`, or `tester`, who has subordinate ids.
    pub user: String,
    /// SELinux enforcing in place of AppArmor.
    pub selinux: bool,
    /// Directory to see inside; it must contain the current one, or the command starts in it.
    pub share: PathBuf,
    /// Memory in MiB.
    pub memory: u32,
    /// The machine is ended after this time.
    pub limit: Duration,
    /// What each line of output begins with, for machines that run beside each other; they have no input.
    pub label: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            systemd: false,
            user: "root".to_owned(),
            selinux: false,
            share: PathBuf::from("."),
            memory: 2048,
            limit: Duration::from_secs(600),
            label: None,
        }
    }
}

/// Runs `cargo xtask vm [OPTION...] -- COMMAND...` and returns the command's status.
pub fn run(words: &[&str]) -> Result<u8> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word {
            "--systemd" => options.systemd = true,
            "--selinux" => options.selinux = true,
            "--user" => options.user = value()?.to_string(),
            "--share" => options.share = PathBuf::from(value()?),
            "--memory" => options.memory = value()?.parse()?,
            "--timeout" => options.limit = Duration::from_secs(value()?.parse()?),
            "--" => break,
            _ => bail!("vm: unknown option {word}"),
        }
    }
    let command: Vec<String> = words.map(|&word| word.to_owned()).collect();
    if command.is_empty() {
        bail!("vm: no command; write it after --");
    }
    boot(&options, &command)
}

/// Makes what the machine boots, if it is not there: once, before machines run beside each other.
pub fn prepare() -> Result<()> {
    image::directory().map(drop)
}

/// Boots the machine, runs the command in it and returns its status.
pub fn boot(options: &Options, words: &[String]) -> Result<u8> {
    let image = image::directory()?;
    let staging = Staging::new(&std::env::temp_dir(), "dhow-vm")?;
    let share = options.share.canonicalize().with_context(|| format!("share {}", options.share.display()))?;
    fs::write(staging.path().join("job"), job(options, &share, words)?)?;
    let tools = Tools { directory: image.join("tools/usr") };
    let server = Guard(start_file_server(&tools, &share, staging.path())?);
    let mut machine = Guard(qemu(&tools, &image, options, staging.path()).spawn().context("start QEMU")?);
    let copiers = [
        copy(machine.0.stdout.take().context("QEMU has no output")?, std::io::stdout(), options.label),
        copy(machine.0.stderr.take().context("QEMU has no errors")?, std::io::stderr(), options.label),
    ];
    let until = Instant::now() + options.limit;
    while machine.0.try_wait()?.is_none() {
        if Instant::now() > until {
            bail!("vm: stopped after {} s", options.limit.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
    for copier in copiers {
        // A copier that panicked has shown why.
        drop(copier.join());
    }
    drop(server);
    match fs::read_to_string(staging.path().join("status")).unwrap_or_default().trim().parse() {
        Ok(status) => Ok(status),
        Err(_) => {
            let console = fs::read_to_string(staging.path().join("console")).unwrap_or_default();
            let last: Vec<&str> = console.lines().rev().take(20).collect();
            bail!("vm: it ended before the command did\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Programs of trixie, run under their own loader and libraries, whatever this machine has.
struct Tools {
    directory: PathBuf,
}

impl Tools {
    fn command(&self, program: &str) -> Command {
        // They end when we do, however we end.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(self.directory.join("lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(self.directory.join("lib/x86_64-linux-gnu"))
            .arg(self.directory.join(program));
        command
    }
}

/// Serves the shared directory over virtiofs.
fn start_file_server(tools: &Tools, share: &Path, staging: &Path) -> Result<Child> {
    let socket = staging.join("share.sock");
    let mut child = tools
        .command("libexec/virtiofsd")
        .arg(format!("--socket-path={}", socket.display()))
        .arg(format!("--shared-dir={}", share.display()))
        // Nobody else writes there meanwhile. Without it each execution of a program reads all its pages again.
        .args(["--cache", "always", "--xattr"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(staging.join("virtiofsd"))?)
        .spawn()
        .context("start virtiofsd")?;
    let until = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        if let Some(status) = child.try_wait()? {
            bail!("virtiofsd: {status}: {}", fs::read_to_string(staging.join("virtiofsd"))?);
        }
        if Instant::now() > until {
            bail!("virtiofsd makes no socket");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

fn qemu(tools: &Tools, image: &Path, options: &Options, staging: &Path) -> Command {
    let init = if options.systemd { "/usr/lib/systemd/systemd" } else { "/usr/libexec/dhow-vm/init" };
    let security = if options.selinux { "selinux" } else { "apparmor" };
    let memory = options.memory;
    let share = tools.directory.join("share");
    let mut qemu = tools.command("bin/qemu-system-x86_64");
    for directory in ["qemu", "seabios"] {
        qemu.arg("-L").arg(share.join(directory));
    }
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-accel", "tcg", "-cpu", "max", "-smp", "2"])
        .args(["-machine", "pc,memory-backend=memory", "-m", &memory.to_string()])
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={memory}M,share=on")])
        .arg("-kernel")
        .arg(image.join("vmlinux"))
        .args([
            "-append",
            &format!(
                "console=ttyS0 quiet panic=-1 mitigations=off root=/dev/nvme0n1 rootfstype=ext4 rw init={init} \
                 security={security}"
            ),
        ])
        .args(["-serial", &format!("file:{}", staging.join("console").display())])
        .args([
            "-drive",
            &format!("file={},format=raw,if=none,id=disk,snapshot=on", image.join("disk.img").display()),
            "-device",
            "nvme,drive=disk,serial=disk",
        ])
        .args(["-device", "virtio-serial-pci"])
        .args(["-chardev", "stdio,id=in,signal=off", "-device", "virtserialport,nr=1,chardev=in"]);
    // QEMU opens outputs by path and truncates them, so its own are pipes, which we copy on.
    let status = staging.join("status");
    let outputs = [(2, "out", Path::new("/dev/stdout")), (3, "err", Path::new("/dev/stderr")), (4, "status", &status)];
    for (number, name, path) in outputs {
        qemu.args(["-chardev", &format!("file,id={name},path={}", path.display())])
            .args(["-device", &format!("virtserialport,nr={number},chardev={name}")]);
    }
    qemu.args(["-chardev", &format!("socket,id=share,path={}", staging.join("share.sock").display())])
        .args(["-device", "vhost-user-fs-pci,chardev=share,tag=share"])
        .args(["-fw_cfg", &format!("name=opt/dhow/job,file={}", staging.join("job").display())])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A terminal would be switched to raw mode for the guest.
    if options.label.is_some() || std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        qemu.stdin(Stdio::null());
    }
    qemu
}

/// What the guest's job script evaluates.
fn job(options: &Options, share: &Path, words: &[String]) -> Result<String> {
    let current = std::env::current_dir()?;
    let directory = if current.starts_with(share) { &current } else { share };
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    Ok(format!(
        "user={} share={} directory={} command=({})\n",
        quote(&options.user),
        quote(&share.to_string_lossy()),
        quote(&directory.to_string_lossy()),
        words.join(" ")
    ))
}

/// Quotes a word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Copies bytes as they come, or whole lines with a label. Our own output being closed is no reason to stop the machine.
fn copy(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    label: Option<&'static str>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![];
        let Some(label) = label else {
            buffer.resize(1 << 16, 0);
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                drop(to.write_all(&buffer[..length]).and_then(|()| to.flush()));
            }
            return;
        };
        let mut lines = BufReader::new(from);
        buffer.extend_from_slice(label.as_bytes());
        while let Ok(1..) = lines.read_until(b'\n', &mut buffer) {
            // One write, so that lines of two machines do not mix.
            drop(to.write_all(&buffer).and_then(|()| to.flush()));
            buffer.truncate(label.len());
        }
    })
}

/// A process that ends when it goes out of scope.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the process has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
