//! Throughput between two hosts, of one TCP stream: bare, with the I/O thread and WireGuard alone, with the whole engine, and
//! with wireguard-go. Run as root: it makes two network namespaces, measures with iperf3 and removes them.
//!
//! ```text
//! cargo run --release -p wardgate-io --example pair -- [RUNS] [SECONDS] [PATH-OF-WIREGUARD-GO]
//! ```

mod engine;
mod one_peer;

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use wardgate_wireguard::{Keys, PrivateKey};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names of the two namespaces.
const HOSTS: [&str; 2] = ["wardgate-pair-0", "wardgate-pair-1"];
const OUTER: [&str; 2] = ["10.76.0.1", "10.76.0.2"];
const WIREGUARD_GO_PORT: u16 = 51_820;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, side] = &arguments[..] {
        match kind.as_str() {
            "io" => return one_peer::run(side.parse()?),
            "engine" => return engine::run(side.parse()?),
            _ => {}
        }
    }
    let runs: u32 = arguments.first().map_or(Ok(3), |text| text.parse())?;
    let seconds = arguments.get(1).map_or("3", String::as_str);

    let _network = Network::new()?;
    let mut processes = Processes::default();
    processes.start(1, "iperf3 --server")?;
    let mut subjects = vec![("bare", OUTER[1].to_owned())];
    let own = std::env::current_exe()?.display().to_string();
    for side in 0..2 {
        processes.start(side, &format!("{own} io {side}"))?;
        configure(
            side,
            one_peer::INTERFACE,
            &format!("10.77.1.{}/24", side + 1),
        )?;
    }
    subjects.push(("I/O only", "10.77.1.2".to_owned()));
    for (side, address) in engine::TUNNEL.iter().enumerate() {
        processes.start(side, &format!("{own} engine {side}"))?;
        configure(side, engine::INTERFACE, &format!("{address}/32"))?;
    }
    let (client, interface) = (engine::TUNNEL[0], engine::INTERFACE);
    run(1, &format!("ip addr add {}/32 dev lo", engine::RESOURCE))?;
    for (side, from, to) in [(0, client, engine::RESOURCE), (1, engine::RESOURCE, client)] {
        run(
            side,
            &format!("ip route add {to} dev {interface} src {from}"),
        )?;
    }
    subjects.push(("engine", engine::RESOURCE.to_owned()));
    if let Some(path) = arguments.get(2) {
        for side in 0..2 {
            let name = format!("wg{side}");
            processes.start(side, &format!("{path} -f {name}"))?;
            set_keys(side, &name)?;
            configure(side, &name, &format!("10.77.2.{}/24", side + 1))?;
        }
        subjects.push(("wireguard-go", "10.77.2.2".to_owned()));
    }
    for (_, address) in &subjects {
        run(0, &format!("ping -c 1 -w 20 -q {address}"))?;
    }
    for _ in 0..runs {
        for (name, address) in &subjects {
            // The server may still be busy with the run before.
            let up = retry(|| measure(address, seconds, ""))?;
            let down = retry(|| measure(address, seconds, "--reverse"))?;
            println!("{name:>12}: {up:5.0} up, {down:5.0} down, Mbit/s");
        }
    }
    Ok(())
}

fn private_key(side: usize) -> [u8; 32] {
    let mut bytes = [side as u8 + 1; 32];
    // Clamped as X25519 wants it, so that every implementation derives the same public key.
    bytes[0] &= 248;
    bytes[31] = bytes[31] & 127 | 64;
    bytes
}

fn keys_of(side: usize) -> Keys {
    Keys::new(PrivateKey::new(private_key(side)))
}

/// What a packet has cost one end so far.
fn report(name: &str, side: usize, stats: &[(&'static str, u64)]) -> Result<()> {
    let value = |name| {
        let found = stats.iter().find(|(other, _)| *other == name);
        found.map_or(0, |(_, value)| *value)
    };
    let packets = value("udp_received_datagrams") + value("udp_sent_datagrams");
    eprintln!(
        "{name}, side {side}: {:.2} µs of CPU a packet, {:.1} packets a read, {:.1} a write",
        cpu_time_ns()? as f64 / 1e3 / packets.max(1) as f64,
        value("udp_sent_datagrams") as f64 / value("tun_reads").max(1) as f64,
        value("tun_written_packets") as f64 / value("tun_writes").max(1) as f64,
    );
    Ok(())
}

/// Nanoseconds that all threads of this process have run.
fn cpu_time_ns() -> Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// Two namespaces and a cable.
struct Network;

impl Network {
    fn new() -> Result<Self> {
        for host in HOSTS {
            shell(&format!("ip netns add {host}"))?;
        }
        let network = Self;
        let [near, far] = HOSTS;
        shell(&format!(
            "ip link add eth0 netns {near} type veth peer name eth0 netns {far}"
        ))?;
        for (side, address) in OUTER.iter().enumerate() {
            run(side, &format!("ip addr add {address}/24 dev eth0"))?;
            run(side, "ip link set eth0 up")?;
            run(side, "ip link set lo up")?;
        }
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in HOSTS {
            // What is gone already need not be deleted.
            let _ = shell(&format!("ip netns del {host}"));
        }
    }
}

/// Processes that end with their standard input, or are killed.
#[derive(Default)]
struct Processes(Vec<Child>);

impl Processes {
    fn start(&mut self, side: usize, command: &str) -> Result<()> {
        let child = command_in(side, command)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        self.0.push(child);
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        // Those that listen to their input get a moment for their last words.
        thread::sleep(Duration::from_millis(300));
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Give the interface its address once its process has made it.
fn configure(side: usize, interface: &str, address: &str) -> Result<()> {
    retry(|| run(side, &format!("ip link show {interface}")))?;
    run(side, &format!("ip addr add {address} dev {interface}"))?;
    let limits = "mtu 1280 txqueuelen 10000 gso_max_segs 49";
    run(side, &format!("ip link set {interface} {limits} up"))
}

/// Configure wireguard-go over its socket (wireguard.com/xplatform).
fn set_keys(side: usize, interface: &str) -> Result<()> {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let settings = format!(
        "set=1\nprivate_key={}\nlisten_port={WIREGUARD_GO_PORT}\npublic_key={}\nendpoint={}:{WIREGUARD_GO_PORT}\nallowed_ip=0.0.0.0/0\n\n",
        hex(&private_key(side)),
        hex(&keys_of(1 - side).public.0),
        OUTER[1 - side],
    );
    let path = format!("/var/run/wireguard/{interface}.sock");
    let mut socket = retry(|| Ok(UnixStream::connect(&path)?))?;
    socket.write_all(settings.as_bytes())?;
    let mut answer = [0; 64];
    let len = socket.read(&mut answer)?;
    match std::str::from_utf8(&answer[..len])?.trim() {
        "errno=0" => Ok(()),
        other => Err(format!("wireguard-go: {other}").into()),
    }
}

fn retry<T>(mut action: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..50 {
        if let Ok(value) = action() {
            return Ok(value);
        }
        thread::sleep(Duration::from_millis(100));
    }
    action()
}

/// Mbit/s that arrive over one TCP stream.
fn measure(address: &str, seconds: &str, direction: &str) -> Result<f64> {
    let command = format!("iperf3 --client {address} --time {seconds} --format m {direction}");
    let output = command_in(0, &command).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text
        .lines()
        .find(|line| line.ends_with("receiver"))
        .ok_or_else(|| format!("iperf3: {}", String::from_utf8_lossy(&output.stderr)))?;
    let mut words = line.split_whitespace();
    let rate = words
        .by_ref()
        .take_while(|word| *word != "Mbits/sec")
        .last();
    Ok(rate.ok_or("iperf3 gave no rate")?.parse()?)
}

fn run(side: usize, command: &str) -> Result<()> {
    check(command_in(side, command), command)
}

fn shell(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let mut process = Command::new(words.next().unwrap_or_default());
    process.args(words);
    check(process, command)
}

fn command_in(side: usize, command: &str) -> Command {
    let mut process = Command::new("ip");
    process
        .args(["netns", "exec", HOSTS[side]])
        .args(command.split_whitespace());
    process
}

fn check(mut process: Command, command: &str) -> Result<()> {
    let output = process.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
