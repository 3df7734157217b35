//! Throughput of the I/O thread and of WireGuard alone: two hosts with fixed keys and addresses, nothing else between the
//! TUN device and the socket. Run as root: it makes two network namespaces, measures with iperf3 and removes them.
//!
//! ```text
//! cargo run --release -p wardgate-io --example pair -- [RUNS] [SECONDS] [PATH-OF-WIREGUARD-GO]
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wardgate_datapath::{Outbox, TunSink};
use wardgate_io::{BootClock, Host, PacketEngine, Received, Tun, TunnelSockets, fill_random};
use wardgate_packet::offload::TunRead;
use wardgate_wireguard::{
    DATA_HEADER_SIZE, DATA_OVERHEAD, Keys, MessageKind, PresharedKey, PrivateKey, Timers,
    TimestampClock, Tunnel, TunnelConfig, classify,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names of the two namespaces.
const HOSTS: [&str; 2] = ["wardgate-pair-0", "wardgate-pair-1"];
const OUTER: [&str; 2] = ["10.76.0.1", "10.76.0.2"];
const PORT: u16 = 52_625;
const WIREGUARD_GO_PORT: u16 = 51_820;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [end, side] = &arguments[..]
        && end == "end"
    {
        return run_end(side.parse()?);
    }
    let runs: u32 = arguments.first().map_or(Ok(3), |text| text.parse())?;
    let seconds = arguments.get(1).map_or("3", String::as_str);

    let _network = Network::new()?;
    let mut processes = Processes::default();
    processes.start(1, "iperf3 --server")?;
    let mut subjects = vec![("bare", OUTER[1].to_owned())];
    let own = std::env::current_exe()?.display().to_string();
    for side in 0..2 {
        processes.start(side, &format!("{own} end {side}"))?;
        configure(side, "wardgate", "10.77.1")?;
    }
    subjects.push(("wardgate", "10.77.1.2".to_owned()));
    if let Some(path) = arguments.get(2) {
        for side in 0..2 {
            let name = format!("wg{side}");
            processes.start(side, &format!("{path} -f {name}"))?;
            set_keys(side, &name)?;
            configure(side, &name, "10.77.2")?;
        }
        subjects.push(("wireguard-go", "10.77.2.2".to_owned()));
    }
    for (_, address) in &subjects {
        run(0, &format!("ping -c 1 -w 10 -q {address}"))?;
    }
    for _ in 0..runs {
        for (name, address) in &subjects {
            let up = measure(address, seconds, "")?;
            let down = measure(address, seconds, "--reverse")?;
            println!("{name:>12}: {up:5.0} up, {down:5.0} down, Mbit/s");
        }
    }
    Ok(())
}

/// One end: until its standard input closes.
fn run_end(side: usize) -> Result<()> {
    let clock = BootClock::new();
    let mut warnings = Vec::new();
    let sockets = TunnelSockets::open(PORT, None, &mut warnings)?;
    let mut seed = [0; 32];
    fill_random(&mut seed)?;
    let config = TunnelConfig {
        keys: Arc::new(keys_of(side)),
        peer: keys_of(1 - side).public,
        preshared_key: PresharedKey::new([0; 32]),
        index: 1,
        timers: Timers::CLASSIC,
        seed,
        clock: TimestampClock::new(clock.zero(), clock.unix_at_zero()),
    };
    let engine = OnePeer {
        tunnel: Tunnel::new(config, clock.now()),
        peer: SocketAddr::new(OUTER[1 - side].parse()?, PORT),
    };
    let host = Host::start(
        Some(Tun::open("wardgate")?),
        sockets,
        clock,
        engine,
        warnings,
    )?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let stats = host.stats()?;
    let value = |name| {
        let found = stats.iter().find(|(other, _)| *other == name);
        found.map_or(0, |(_, value)| *value)
    };
    let packets = value("udp_received_datagrams") + value("udp_sent_datagrams");
    let cpu_ns = cpu_time_ns()?;
    println!(
        "side {side}: {:.2} µs of CPU a packet, {:.1} packets a read, {:.1} a write",
        cpu_ns as f64 / 1e3 / packets.max(1) as f64,
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

/// WireGuard with one peer whose address is known.
struct OnePeer {
    tunnel: Tunnel,
    peer: SocketAddr,
}

impl OnePeer {
    fn send_messages(&mut self, out: &mut impl Outbox) {
        while let Some(message) = self.tunnel.poll_transmit() {
            out.reserve(None, self.peer, 0, message.len())
                .copy_from_slice(&message);
        }
    }
}

impl PacketEngine for OnePeer {
    type Command = ();
    type Refusal = ();
    type Event = ();

    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        now: Instant,
        tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        let mut at = 0;
        while at < buffer.len() {
            let end = buffer.len().min(at + received.stride);
            let datagram = &mut buffer[at..end];
            if classify(datagram) == Some(MessageKind::Data) {
                let opened = self.tunnel.open(datagram, now).map(|plain| plain.len());
                if let Ok(len @ 1..) = opened {
                    let start = at + DATA_HEADER_SIZE;
                    tun.push(buffer, start..start + len);
                }
            } else {
                // A message that is no good is dropped; there is nobody to tell.
                let _ = self.tunnel.handle_handshake(datagram, now);
            }
            at = end;
        }
        self.send_messages(out);
    }

    fn handle_tun(
        &mut self,
        read: &TunRead<'_>,
        now: Instant,
        _tun: &mut impl TunSink,
        out: &mut impl Outbox,
    ) {
        for segment in read.segments() {
            let room = out.reserve(None, self.peer, 0, segment.len() + DATA_OVERHEAD);
            segment.write_into(&mut room[DATA_HEADER_SIZE..][..segment.len()]);
            if self.tunnel.seal(room, now).is_err() {
                out.rollback();
                self.tunnel.initiate(now);
                break;
            }
        }
        self.send_messages(out);
    }

    fn apply(
        &mut self,
        (): (),
        _now: Instant,
        _tun: &mut impl TunSink,
        _out: &mut impl Outbox,
    ) -> std::result::Result<(), ()> {
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant, _tun: &mut impl TunSink, out: &mut impl Outbox) {
        self.tunnel.handle_timeout(now);
        self.send_messages(out);
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.tunnel.poll_timeout()
    }

    fn poll_event(&mut self) -> Option<()> {
        while self.tunnel.poll_event().is_some() {}
        None
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
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
            .stdout(if command.contains(" end ") {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .stderr(Stdio::null())
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
fn configure(side: usize, interface: &str, prefix: &str) -> Result<()> {
    retry(|| run(side, &format!("ip link show {interface}")))?;
    let address = format!("{prefix}.{}/24", side + 1);
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
        .ok_or_else(|| format!("iperf3: {text}"))?;
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
