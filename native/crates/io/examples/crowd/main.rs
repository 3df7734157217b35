//! A crowd of clients through one gateway: how fast they connect and open flows, what passes and how fairly, what it costs
//! the gateway in CPU and memory, and what it costs while nobody says anything. Run as root: it makes two network namespaces
//! and removes them.
//!
//! ```text
//! cargo run --release -p wardgate-io --example crowd -- [CLIENTS] [FLOWS-OF-EACH] [SECONDS] [records]
//! ```
//!
//! With `records` nothing is measured but what those cost, in more rounds.
//!
//! ```text
//!  clients, in one process: engines as they ship, one UDP socket,  │  gateway: engine, I/O thread and TUN device as they ship,
//!  an address each; a relay; this file's portal                    │  without Python; beside it a server that sends back
//! ```
//!
//! The clients work in a closed loop: each flow has one packet on its way, and sends the next when that came back, or is lost
//! for 300 ms. What records cost is measured with ten on their way too, as TCP begins: packets of a flow follow each other then. The last line on standard error is JSON.

#![allow(
    clippy::disallowed_methods,
    reason = "a program that measures reads the clock"
)]

mod clients;
mod echo;
mod gateway;

use std::error::Error;
use std::process::{Child, Command, Stdio};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names of the two namespaces.
const HOSTS: [&str; 2] = ["wardgate-crowd-0", "wardgate-crowd-1"];
const OUTER: [&str; 2] = ["10.76.0.1", "10.76.0.2"];
const RESOURCE: &str = "10.78.0.2";
const INTERFACE: &str = "crowd0";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("clients") => return clients::run(&arguments[1..]),
        Some("gateway") => return gateway::run(),
        Some("echo") => return echo::run(),
        _ => {}
    }
    let _network = Network::new()?;
    let own = std::env::current_exe()?.display().to_string();
    let mut echo = Running(in_host(1, &[&own, "echo"]).spawn()?);
    let mut gateway = in_host(1, &[&own, "gateway"]);
    gateway.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut gateway = Running(gateway.spawn()?);
    let mut words = vec![own.as_str(), "clients"];
    words.extend(arguments.iter().map(String::as_str));
    // What the gateway says goes to the clients, and the other way round.
    let (said, told) = (gateway.0.stdout.take(), gateway.0.stdin.take());
    let (Some(said), Some(told)) = (said, told) else {
        return Err("the gateway has no pipes".into());
    };
    let mut clients = in_host(0, &words);
    clients.stdin(said).stdout(told);
    let mut clients = Running(clients.spawn()?);
    // The pipes' ends here go with the command that held them.
    let ended = clients.0.wait()?;
    let _ = gateway.0.kill();
    let _ = echo.0.kill();
    if ended.success() {
        Ok(())
    } else {
        Err("the clients gave up".into())
    }
}

/// A process that does not outlive this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two namespaces and a cable. All of 10.80.0.0/16 is local to the first one.
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
        run(0, "ip route add local 10.80.0.0/16 dev lo")?;
        run(1, &format!("ip route add 10.80.0.0/16 via {}", OUTER[0]))?;
        run(1, &format!("ip addr add {RESOURCE}/32 dev lo"))?;
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

fn run(side: usize, command: &str) -> Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    check(in_host(side, &words), command)
}

fn shell(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let mut process = Command::new(words.next().unwrap_or_default());
    process.args(words);
    check(process, command)
}

fn in_host(side: usize, words: &[&str]) -> Command {
    let mut process = Command::new("ip");
    process.args(["netns", "exec", HOSTS[side]]).args(words);
    process
}

fn check(mut process: Command, command: &str) -> Result<()> {
    let output = process.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
