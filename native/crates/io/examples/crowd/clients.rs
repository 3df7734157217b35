//! The clients, all in one process and on one socket, the relay from which they learn their addresses, and what the portal
//! does otherwise: it introduces them to the gateway and carries candidates.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wardgate_datapath::command::{Command, Refused};
use wardgate_datapath::event::Event;
use wardgate_datapath::relay::PeerRules;
use wardgate_datapath::tunnel::{Arrival, EngineConfig, Io, Role, TunnelEngine};
use wardgate_datapath::{Outbox, TunSink};
use wardgate_io::{
    BootClock, Host, PacketEngine, Received, RelayHost, RelayHostConfig, TunnelSockets, fill_random,
};
use wardgate_packet::offload::TunRead;
use wardgate_packet::{IpPacket, build};
use wardgate_wireguard::{Keys, PrivateKey};

use crate::{OUTER, RESOURCE, Result, echo};

pub const GATEWAY_KEY: [u8; 32] = [0x48; 32];
const GATEWAY_TUNNEL: (&str, &str) = ("100.64.0.2", "fd00:2021:1111::2");
const SECRET: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const RELAY_PORT: u16 = 3_478;
const PORT: u16 = 52_625;
/// Of clients' flows.
const FIRST_PORT: u16 = 10_000;
/// A packet that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(300);
const SWEEP: Duration = Duration::from_millis(50);
/// Clients that are told of the relay at a time.
const AT_ONCE: usize = 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(300);
/// Until connections without packets are checked seldom (data-plane §1.6).
const SETTLE: Duration = Duration::from_secs(25);
const QUIET: Duration = Duration::from_secs(30);
/// Packets that TCP sends at once at first (RFC 6928).
const WINDOW: u32 = 10;
/// Pairs of rounds without and with records, and where nothing else is measured.
const ROUNDS: usize = 6;
const ROUNDS_ALONE: usize = 16;

pub fn run(arguments: &[String]) -> Result<()> {
    let number = |at: usize, default| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (clients, flows, seconds) = (number(0, 1_000)?, number(1, 10)?, number(2, 10)?);
    let for_seconds = Duration::from_secs(seconds as u64);
    let mut portal = Portal::open(clients)?;
    let fresh = portal.figures()?;
    let began = Instant::now();
    portal.connect()?;
    let took = began.elapsed();
    if arguments.get(3).is_some_and(|what| what == "records") {
        let [windows, singles] = portal.costs_of_records(flows, ROUNDS_ALONE, for_seconds / 3)?;
        windows.tell();
        singles.tell();
        eprintln!(
            "{}",
            json!({"records": windows.json(), "records_of_singles": singles.json()})
        );
        return Ok(());
    }
    let connected = portal.figures()?;
    thread::sleep(SETTLE);
    let quiet_from = portal.figures()?;
    thread::sleep(QUIET);
    let quiet = portal.figures()?.since(&quiet_from, QUIET);
    let load = portal.load(
        Plan {
            flows,
            per_flow: u32::MAX,
            window: 1,
            payload: 1_200,
        },
        for_seconds,
    )?;
    let loaded = portal.figures()?;
    let opened = portal.load(
        Plan {
            flows,
            per_flow: 1,
            window: 1,
            payload: 64,
        },
        for_seconds,
    )?;
    let [windows, singles] = portal.costs_of_records(flows, ROUNDS, for_seconds / 3)?;
    eprintln!(
        "{clients} clients connected in {:.1} s; gateway {:.1} MB before, {:.1} MB with them, {:.1} MB with {} flows",
        took.as_secs_f64(),
        fresh.memory / 1e6,
        connected.memory / 1e6,
        loaded.memory / 1e6,
        clients * flows,
    );
    eprintln!(
        "nobody says anything: {:.2} % of a core, {:.1} wake-ups a second, {:.1} datagrams a second",
        100.0 * quiet.core,
        quiet.turns_s,
        quiet.packets_s,
    );
    eprintln!(
        "{} flows at a time: {:.0} Mbit/s each way, {:.0} packets/s, Jain index {:.3} of clients, {:.2} µs of the gateway's thread a packet",
        clients * flows,
        load.mbit_s,
        load.packets_s,
        load.jain,
        load.cpu_us,
    );
    eprintln!(
        "flows of one packet and its answer: {:.0} a second",
        opened.flows_s
    );
    windows.tell();
    singles.tell();
    eprintln!(
        "{}",
        json!({
            "clients": clients, "flows": clients * flows, "connect_s": took.as_secs_f64(),
            "memory_mb": {"fresh": fresh.memory / 1e6, "connected": connected.memory / 1e6, "loaded": loaded.memory / 1e6},
            "quiet": {"core": quiet.core, "wake_ups_s": quiet.turns_s, "datagrams_s": quiet.packets_s},
            "load": {"mbit_s": load.mbit_s, "packets_s": load.packets_s, "jain": load.jain, "cpu_us": load.cpu_us},
            "flows_opened_s": opened.flows_s,
            "records": windows.json(), "records_of_singles": singles.json(),
        })
    );
    Ok(())
}

// ── the portal ──────────────────────────────────────────────────────────────────────────────────────────────────────────

struct Portal {
    host: Host<Crowd>,
    _relay: RelayHost,
    said: Receiver<Value>,
    echoed: Arc<Vec<AtomicU64>>,
    flows_done: Arc<AtomicU64>,
    figures: Option<Figures>,
    connected: BTreeSet<usize>,
    introductions: usize,
    is_gateway_ready: bool,
    /// Whether a load's last work is the end of all its records.
    ends_records: bool,
}

/// What a phase of the load showed.
#[derive(Clone, Copy)]
struct Load {
    mbit_s: f64,
    packets_s: f64,
    flows_s: f64,
    jain: f64,
    cpu_us: f64,
}

/// What records of some 10,000 flows a second cost, by rounds without and with them.
struct Recorded {
    per_flow: u32,
    window: u32,
    without: Load,
    with: Load,
    /// Of pairs of rounds that followed each other, quartiles: the share of the packets a second that is lost.
    lost_throughput: [f64; 3],
    /// The same: microseconds of begin, end and every packet of a flow. The packets are counted as they come in and as they go out.
    /// Flows of the start of a round, which does not count, end in it too: it is a little less.
    flow_us: [f64; 3],
}

/// What the gateway has cost so far.
#[derive(Clone, Copy)]
struct Figures {
    cpu_ns: f64,
    memory: f64,
    turns: f64,
    packets: f64,
}

impl Recorded {
    fn tell(&self) {
        let [_, flow_us, _] = self.flow_us;
        let [low, lost, high] = self.lost_throughput.map(|lost| 100.0 * lost);
        eprintln!(
            "records at {:.0} flows/s of {} packets and answers, {} on their way at a time: {:.3} µs a packet without, {:.3} with; \
             {:.0} and {:.0} packets/s, {lost:.1} % of throughput by pairs of rounds (half of them {low:.1} to {high:.1} %); a flow \
             costs {flow_us:.2} µs, 10,000 flows/s {flow_us:.1} % of a core",
            self.with.flows_s,
            self.per_flow,
            self.window,
            self.without.cpu_us,
            self.with.cpu_us,
            self.without.packets_s,
            self.with.packets_s,
        );
    }

    fn json(&self) -> Value {
        let ([_, lost, _], [_, flow_us, _]) = (self.lost_throughput, self.flow_us);
        json!({
            "flows_s": self.with.flows_s, "cpu_us": {"without": self.without.cpu_us, "with": self.with.cpu_us},
            "packets_s": {"without": self.without.packets_s, "with": self.with.packets_s},
            "lost_throughput": lost, "lost_throughput_quartiles": self.lost_throughput, "packets_of_flow": self.per_flow,
            "window": self.window, "flow_us": flow_us, "flow_us_quartiles": self.flow_us,
        })
    }
}

struct Quiet {
    core: f64,
    turns_s: f64,
    packets_s: f64,
}

impl Figures {
    fn read(said: &Value) -> Self {
        let count = |name: &str| said["stats"][name].as_f64().unwrap_or(0.0);
        Self {
            cpu_ns: said["cpu_ns"].as_f64().unwrap_or(0.0),
            memory: said["memory"].as_f64().unwrap_or(0.0),
            turns: count("io_turns"),
            packets: count("udp_received_datagrams") + count("udp_sent_datagrams"),
        }
    }

    fn since(&self, before: &Self, time: Duration) -> Quiet {
        let seconds = time.as_secs_f64();
        Quiet {
            core: (self.cpu_ns - before.cpu_ns) / 1e9 / seconds,
            turns_s: (self.turns - before.turns) / seconds,
            packets_s: (self.packets - before.packets) / seconds,
        }
    }
}

impl Portal {
    fn open(clients: usize) -> Result<Self> {
        let relay = RelayHost::start(RelayHostConfig {
            stamp_secret: SECRET.to_owned(),
            ipv4: Some(OUTER[0].parse()?),
            ipv6: None,
            port: RELAY_PORT,
            allocation_ports: 49_152..=65_535,
            peer_rules: PeerRules::default(),
            max_sockets: clients + 8,
        })?;
        let clock = BootClock::new();
        let mut warnings = Vec::new();
        let sockets = TunnelSockets::open(PORT, None, &mut warnings)?;
        let echoed: Arc<Vec<AtomicU64>> =
            Arc::new((0..clients).map(|_| AtomicU64::new(0)).collect());
        let flows_done = Arc::new(AtomicU64::new(0));
        let crowd = Crowd::new(clients, &clock, echoed.clone(), flows_done.clone())?;
        let host = Host::start(None, sockets, clock, crowd, warnings)?;
        let (out, said) = channel();
        thread::spawn(move || {
            for line in std::io::stdin()
                .lock()
                .lines()
                .map_while(std::io::Result::ok)
            {
                let events: Vec<Value> = serde_json::from_str(&line).unwrap_or_default();
                for event in events {
                    if out.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self {
            host,
            _relay: relay,
            said,
            echoed,
            flows_done,
            figures: None,
            connected: BTreeSet::new(),
            introductions: 0,
            is_gateway_ready: false,
            ends_records: false,
        })
    }

    /// Connect every client to the gateway, some at a time.
    fn connect(&mut self) -> Result<()> {
        self.tell(&json!({"command": "set_addresses", "ipv4": GATEWAY_TUNNEL.0, "ipv6": GATEWAY_TUNNEL.1}))?;
        self.tell(&set_relays("gateway"))?;
        let until = Instant::now() + CONNECT_WITHIN;
        let clients = self.echoed.len();
        let mut begun = 0;
        while self.connected.len() < clients {
            while self.is_gateway_ready && begun < clients && begun < self.connected.len() + AT_ONCE
            {
                let (ipv4, ipv6) = tunnel_addresses(begun);
                self.command(
                    begun,
                    json!({"command": "set_addresses", "ipv4": ipv4, "ipv6": ipv6}),
                )?;
                self.command(begun, set_relays(&format!("client-{begun}")))?;
                begun += 1;
            }
            self.step()?;
            if Instant::now() > until {
                return Err(format!(
                    "{} of {clients} clients have connected",
                    self.connected.len()
                )
                .into());
            }
        }
        Ok(())
    }

    /// Let the clients work for a while, after a start that does not count.
    fn load(&mut self, plan: Plan, time: Duration) -> Result<Load> {
        self.ask(Asked::Load(Some(plan)))?;
        self.rest(Duration::from_secs(1))?;
        let before = self.figures()?;
        let counted = |counts: &[AtomicU64]| -> Vec<u64> {
            counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect()
        };
        let (start, flows) = (
            counted(&self.echoed),
            self.flows_done.load(Ordering::Relaxed),
        );
        let began = Instant::now();
        self.rest(time)?;
        let seconds = began.elapsed().as_secs_f64();
        let (end, flows_end) = (
            counted(&self.echoed),
            self.flows_done.load(Ordering::Relaxed),
        );
        if self.ends_records {
            self.record(false)?;
        }
        let after = self.figures()?;
        self.ask(Asked::Load(None))?;
        self.rest(Duration::from_millis(300))?;
        let each: Vec<f64> = start
            .iter()
            .zip(&end)
            .map(|(start, end)| (end - start) as f64)
            .collect();
        let (sum, squares) = (
            each.iter().sum::<f64>(),
            each.iter().map(|one| one * one).sum::<f64>(),
        );
        Ok(Load {
            mbit_s: sum * (plan.payload + 28) as f64 * 8.0 / seconds / 1e6,
            packets_s: sum / seconds,
            flows_s: (flows_end - flows) as f64 / seconds,
            jain: sum * sum / (each.len() as f64 * squares.max(1.0)),
            cpu_us: (after.cpu_ns - before.cpu_ns)
                / 1e3
                / (after.packets - before.packets).max(1.0),
        })
    }

    /// Measure the cost of records with many packets of a flow on their way and with one; with as many in all.
    fn costs_of_records(
        &mut self,
        flows: usize,
        pairs: usize,
        time: Duration,
    ) -> Result<[Recorded; 2]> {
        Ok([
            self.cost_of_records(flows.div_ceil(WINDOW as usize), WINDOW, pairs, time)?,
            self.cost_of_records(flows, 1, pairs, time)?,
        ])
    }

    /// Measure the same load without and with records, in flows as long as makes 10,000 of them a second.
    fn cost_of_records(
        &mut self,
        flows: usize,
        window: u32,
        pairs: usize,
        time: Duration,
    ) -> Result<Recorded> {
        let mut plan = Plan {
            flows,
            per_flow: u32::MAX,
            window,
            payload: 1_200,
        };
        let passes = self.load(plan, time)?.packets_s;
        plan.per_flow = ((passes / 10_000.0).round() as u32).max(1);
        let mut rounds: [Vec<Load>; 2] = [Vec::new(), Vec::new()];
        for round in 0..2 * pairs {
            // Off, on, on, off: what changes slowly meets both alike.
            let is_on = round % 4 == 1 || round % 4 == 2;
            self.record(is_on)?;
            self.ends_records = is_on;
            rounds[usize::from(is_on)].push(self.load(plan, time)?);
            self.ends_records = false;
        }
        let pairs = || rounds[0].iter().zip(&rounds[1]);
        let lost = pairs().map(|(without, with)| 1.0 - with.packets_s / without.packets_s);
        let flow_us = pairs()
            .map(|(without, with)| (with.cpu_us - without.cpu_us) * f64::from(2 * plan.per_flow));
        let (lost_throughput, flow_us) = (quartiles(lost.collect()), quartiles(flow_us.collect()));
        let [without, with] = rounds.map(|taken| median(&taken));
        Ok(Recorded {
            lost_throughput,
            flow_us,
            per_flow: plan.per_flow,
            window,
            without,
            with,
        })
    }

    fn record(&self, is_on: bool) -> Result<()> {
        self.tell(&json!({"command": "record_flows", "is_on": is_on, "unix_at_zero_s": 0.0}))
    }

    fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.step()?;
        }
        Ok(())
    }

    fn figures(&mut self) -> Result<Figures> {
        self.figures = None;
        self.say("figures")?;
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.step()?;
            if let Some(figures) = self.figures {
                return Ok(figures);
            }
            if Instant::now() > until {
                return Err("the gateway does not answer".into());
            }
        }
    }

    /// Handle what both sides say, for at most 5 ms.
    fn step(&mut self) -> Result<()> {
        for (client, event) in self.host.drain_events() {
            self.handle_client(client, event)?;
        }
        let mut next = self.said.recv_timeout(Duration::from_millis(5)).ok();
        while let Some(event) = next {
            self.handle_gateway(&event)?;
            next = self.said.try_recv().ok();
        }
        Ok(())
    }

    fn handle_client(&mut self, client: usize, event: Event) -> Result<()> {
        match event {
            Event::RelayUp { .. } => self.introduce(client),
            Event::LocalCandidatesAdded { candidates, .. } => self.tell(&json!({
                "command": "add_remote_candidates", "peer_id": name(client), "candidates": candidates,
            })),
            Event::HandshakeDone { .. } => {
                self.connected.insert(client);
                Ok(())
            }
            // The machine was too busy to answer in time: once more, as a portal would on the next request.
            Event::PeerFailed { .. } if !self.connected.contains(&client) => self.introduce(client),
            Event::PeerFailed { reason, .. } => {
                Err(format!("client {client} has lost its tunnel: {reason:?}").into())
            }
            _ => Ok(()),
        }
    }

    fn handle_gateway(&mut self, event: &Value) -> Result<()> {
        match event["event"].as_str() {
            Some("figures") => self.figures = Some(Figures::read(event)),
            Some("relay_up") => self.is_gateway_ready = true,
            Some("local_candidates_added") => {
                let client = event["peer_id"]
                    .as_str()
                    .and_then(|name| name.strip_prefix("client-"));
                let client: usize = client.ok_or("no such client")?.parse()?;
                self.command(
                    client,
                    json!({"command": "add_remote_candidates", "peer_id": "gateway", "candidates": event["candidates"]}),
                )?;
            }
            _ => {}
        }
        Ok(())
    }

    fn introduce(&mut self, client: usize) -> Result<()> {
        self.introductions += 1;
        let attempt = self.introductions;
        let ice = |side: &str| json!({"username": format!("{side}{client}x{attempt}"), "password": format!("a password of {side} {client}")});
        let shared = |id: &str,
                      key: [u8; 32],
                      local: &str,
                      remote: &str,
                      role: &str,
                      profile: &str,
                      ipv4: String,
                      ipv6: String| {
            json!({
                "command": "upsert_peer", "id": id, "public_key": STANDARD.encode(Keys::new(PrivateKey::new(key)).public.0),
                "preshared_key": STANDARD.encode([7; 32]), "local_ice": ice(local), "remote_ice": ice(remote),
                "role": role, "profile": profile, "ipv4": ipv4, "ipv6": ipv6,
            })
        };
        let (ipv4, ipv6) = tunnel_addresses(client);
        let name = name(client);
        let networks = [format!("{RESOURCE}/32")];
        self.tell(&shared(
            &name,
            client_key(client),
            "g",
            "c",
            "controlled",
            "server",
            ipv4.to_string(),
            ipv6.to_string(),
        ))?;
        self.tell(&json!({
            "command": "grant", "peer_id": name, "resource_id": "resource", "kind": "cidr", "networks": networks,
            "filters": [], "expires_deadline_s": null, "record_under": "an authorization",
        }))?;
        let (gateway4, gateway6) = (GATEWAY_TUNNEL.0.to_owned(), GATEWAY_TUNNEL.1.to_owned());
        self.command(
            client,
            shared(
                "gateway",
                GATEWAY_KEY,
                "c",
                "g",
                "controlling",
                "client",
                gateway4,
                gateway6,
            ),
        )?;
        self.command(
            client,
            json!({"command": "set_routes", "routes": [
                {"prefix": networks[0], "resource_id": "resource", "table": "cidr"},
            ]}),
        )?;
        self.command(client, json!({
            "command": "authorize", "resource_id": "resource", "peer_id": "gateway", "addresses": networks,
        }))
    }

    fn command(&self, client: usize, command: Value) -> Result<()> {
        let command = Command::parse(command.to_string().as_bytes())?;
        self.ask(Asked::Client(client, Box::new(command)))
    }

    fn ask(&self, asked: Asked) -> Result<()> {
        Ok(self.host.apply(asked)??)
    }

    fn tell(&self, command: &Value) -> Result<()> {
        self.say(&command.to_string())
    }

    fn say(&self, line: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }
}

fn name(client: usize) -> String {
    format!("client-{client}")
}

fn client_key(client: usize) -> [u8; 32] {
    let mut key = [0x50; 32];
    key[1..9].copy_from_slice(&(client as u64).to_le_bytes());
    key
}

fn tunnel_addresses(client: usize) -> (Ipv4Addr, Ipv6Addr) {
    let ipv4 = u32::from(Ipv4Addr::new(100, 64, 1, 0)) + client as u32;
    let ipv6 = u128::from(Ipv6Addr::new(0xfd00, 0x2021, 0x1111, 0, 0, 0, 1, 0)) + client as u128;
    (ipv4.into(), ipv6.into())
}

fn outer_address(client: usize) -> Ipv4Addr {
    (u32::from(Ipv4Addr::new(10, 80, 0, 1)) + client as u32).into()
}

fn set_relays(salt: &str) -> Value {
    let expiry = 2_145_916_800_u64; // in 2038
    let digest = Sha256::digest(format!("{expiry}:{SECRET}:{salt}"));
    json!({"command": "set_relays", "replace_all": true, "relays": [{
        "id": "relay", "addresses": [format!("{}:{RELAY_PORT}", OUTER[0])],
        "username": format!("{expiry}:{salt}"), "password": STANDARD_NO_PAD.encode(digest),
    }]})
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
    [at(0.25), at(0.5), at(0.75)]
}

fn median(loads: &[Load]) -> Load {
    let of = |field: fn(&Load) -> f64| {
        let mut values: Vec<f64> = loads.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Load {
        mbit_s: of(|load| load.mbit_s),
        packets_s: of(|load| load.packets_s),
        flows_s: of(|load| load.flows_s),
        jain: of(|load| load.jain),
        cpu_us: of(|load| load.cpu_us),
    }
}

// ── the clients ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Copy)]
struct Plan {
    flows: usize,
    /// Packets of a flow before another one takes its place.
    per_flow: u32,
    /// Packets of a flow that are on their way at a time.
    window: u32,
    payload: usize,
}

enum Asked {
    Client(usize, Box<Command>),
    Load(Option<Plan>),
}

struct Crowd {
    clients: Vec<One>,
    by_address: HashMap<IpAddr, usize>,
    due: BTreeSet<(Instant, usize)>,
    sweep_at: Option<Instant>,
    plan: Option<Plan>,
    events: VecDeque<(usize, Event)>,
    inbox: Inbox,
    echoed: Arc<Vec<AtomicU64>>,
    flows_done: Arc<AtomicU64>,
}

struct One {
    engine: TunnelEngine,
    own: SocketAddr,
    inner: IpAddr,
    server: SocketAddr,
    due_at: Option<Instant>,
    flows: Vec<Flow>,
}

struct Flow {
    port: u16,
    left: u32,
    /// Packets whose answer has not come.
    on_their_way: u32,
    sent_at: Instant,
}

impl Crowd {
    fn new(
        clients: usize,
        clock: &BootClock,
        echoed: Arc<Vec<AtomicU64>>,
        flows_done: Arc<AtomicU64>,
    ) -> Result<Self> {
        let resource: IpAddr = RESOURCE.parse()?;
        let made: std::io::Result<Vec<One>> = (0..clients)
            .map(|client| {
                let mut seed = [0; 32];
                fill_random(&mut seed)?;
                let config = EngineConfig {
                    private_key: client_key(client),
                    seed,
                    epoch: clock.zero(),
                    unix_at_epoch: clock.unix_at_zero(),
                };
                Ok(One {
                    engine: TunnelEngine::new(Role::Client, config),
                    own: SocketAddr::new(outer_address(client).into(), PORT),
                    inner: tunnel_addresses(client).0.into(),
                    server: SocketAddr::new(
                        resource,
                        echo::FIRST_PORT + (client % echo::PORTS) as u16,
                    ),
                    due_at: None,
                    flows: Vec::new(),
                })
            })
            .collect();
        let clients = made?;
        Ok(Self {
            by_address: clients
                .iter()
                .enumerate()
                .map(|(at, one)| (one.own.ip(), at))
                .collect(),
            clients,
            due: BTreeSet::new(),
            sweep_at: None,
            plan: None,
            events: VecDeque::new(),
            inbox: Inbox::default(),
            echoed,
            flows_done,
        })
    }

    /// Call one client's engine, and carry out what comes of it.
    fn with<O: Outbox, T>(
        &mut self,
        client: usize,
        now: Instant,
        out: &mut O,
        call: impl FnOnce(&mut TunnelEngine, &mut Io<'_, Inbox, Own<'_, O>>) -> T,
    ) -> T {
        let one = &mut self.clients[client];
        let mut out = Own {
            inner: out,
            own: one.own,
        };
        let result = call(
            &mut one.engine,
            &mut Io {
                now,
                tun: &mut self.inbox,
                out: &mut out,
            },
        );
        while let Some(packet) = self.inbox.0.pop() {
            let Some(plan) = self.plan else { continue };
            let Some(at) = one.came_back(&packet) else {
                continue;
            };
            self.echoed[client].fetch_add(1, Ordering::Relaxed);
            let flow = &mut one.flows[at];
            // What was taken for lost and sent again comes twice.
            flow.left = flow.left.saturating_sub(1);
            flow.on_their_way = flow.on_their_way.saturating_sub(1);
            if flow.left == 0 {
                self.flows_done.fetch_add(1, Ordering::Relaxed);
                *flow = plan.next(flow.port, now);
            }
            if flow.on_their_way > 0 {
                continue;
            }
            let mut io = Io {
                now,
                tun: &mut self.inbox,
                out: &mut out,
            };
            one.send(at, &plan, &mut io);
        }
        while let Some(event) = one.engine.poll_event() {
            self.events.push_back((client, event));
        }
        let due_at = one.engine.poll_timeout();
        if let Some(former) = std::mem::replace(&mut one.due_at, due_at) {
            self.due.remove(&(former, client));
        }
        if let Some(due_at) = due_at {
            self.due.insert((due_at, client));
        }
        result
    }

    fn send(&mut self, client: usize, flow: usize, now: Instant, out: &mut impl Outbox) {
        let Some(plan) = self.plan else { return };
        let one = &mut self.clients[client];
        one.flows[flow].begin_window(&plan, now);
        if let Some(packet) = one.packet(flow, plan.payload) {
            let count = one.flows[flow].on_their_way;
            self.with(client, now, out, |engine, io| {
                for _ in 0..count {
                    engine.handle_tun(&TunRead::whole(&packet), io);
                }
            });
        }
    }

    fn begin(&mut self, plan: Option<Plan>, now: Instant, out: &mut impl Outbox) {
        self.plan = plan;
        self.sweep_at = plan.map(|_| now + SWEEP);
        let Some(plan) = plan else { return };
        for client in 0..self.clients.len() {
            // From where the plan before has ended, so that flows are new ones.
            let first = self.clients[client]
                .flows
                .iter()
                .map(|flow| flow.port)
                .max();
            let first = first.map_or(FIRST_PORT, |port| port.wrapping_add(1).max(FIRST_PORT));
            let flows = (0..plan.flows).map(|at| Flow {
                port: first.wrapping_add(at as u16).max(FIRST_PORT),
                left: plan.per_flow,
                on_their_way: 0,
                sent_at: now,
            });
            self.clients[client].flows = flows.collect();
            for flow in 0..plan.flows {
                self.send(client, flow, now, out);
            }
        }
    }

    /// Send anew what is lost.
    fn sweep(&mut self, now: Instant, out: &mut impl Outbox) {
        for client in 0..self.clients.len() {
            for flow in 0..self.clients[client].flows.len() {
                if self.clients[client].flows[flow].sent_at + PATIENCE <= now {
                    self.send(client, flow, now, out);
                }
            }
        }
        self.sweep_at = Some(now + SWEEP);
    }
}

impl PacketEngine for Crowd {
    type Command = Asked;
    type Refusal = Refused;
    type Event = (usize, Event);

    fn handle_network(
        &mut self,
        received: &Received,
        buffer: &mut [u8],
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) {
        let Some(&client) = self.by_address.get(&received.local.ip()) else {
            return;
        };
        let arrival = Arrival {
            from: received.from,
            local: received.local,
            ecn: received.ecn,
            stride: received.stride,
        };
        self.with(client, io.now, io.out, |engine, io| {
            engine.handle_network(&arrival, buffer, io)
        });
    }

    fn handle_tun(&mut self, _read: &TunRead<'_>, _io: &mut Io<'_, impl TunSink, impl Outbox>) {}

    fn apply(
        &mut self,
        asked: Asked,
        io: &mut Io<'_, impl TunSink, impl Outbox>,
    ) -> std::result::Result<(), Refused> {
        match asked {
            Asked::Client(client, command) => self.with(client, io.now, io.out, |engine, io| {
                engine.apply(*command, io)
            }),
            Asked::Load(plan) => {
                self.begin(plan, io.now, io.out);
                Ok(())
            }
        }
    }

    fn handle_timeout(&mut self, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        while let Some((_, client)) = self.due.first().copied().filter(|(at, _)| *at <= io.now) {
            self.with(client, io.now, io.out, |engine, io| {
                engine.handle_timeout(io)
            });
        }
        if self.sweep_at.is_some_and(|at| at <= io.now) {
            self.sweep(io.now, io.out);
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        [due, self.sweep_at].into_iter().flatten().min()
    }

    fn poll_event(&mut self, _waiting: usize) -> Option<(usize, Event)> {
        self.events.pop_front()
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

impl Plan {
    /// The flow that follows one that has ended.
    fn next(&self, port: u16, now: Instant) -> Flow {
        let step = self.flows as u16;
        Flow {
            port: port.checked_add(step).unwrap_or(FIRST_PORT + port % step),
            left: self.per_flow,
            on_their_way: 0,
            sent_at: now,
        }
    }
}

impl Flow {
    fn begin_window(&mut self, plan: &Plan, now: Instant) {
        self.on_their_way = plan.window.min(self.left);
        self.sent_at = now;
    }
}

impl One {
    /// Send as much of a flow as may be on its way.
    fn send(&mut self, flow: usize, plan: &Plan, io: &mut Io<'_, impl TunSink, impl Outbox>) {
        self.flows[flow].begin_window(plan, io.now);
        if let Some(packet) = self.packet(flow, plan.payload) {
            for _ in 0..self.flows[flow].on_their_way {
                self.engine.handle_tun(&TunRead::whole(&packet), io);
            }
        }
    }

    fn packet(&self, flow: usize, payload: usize) -> Option<Vec<u8>> {
        let port = self.flows[flow].port;
        let mut bytes = vec![0; payload];
        bytes[..2].copy_from_slice(&(flow as u16).to_be_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        build::udp(SocketAddr::new(self.inner, port), self.server, &bytes)
    }

    /// Which flow a packet answers; none if it came late.
    fn came_back(&self, packet: &[u8]) -> Option<usize> {
        let packet = IpPacket::parse(packet).ok()?;
        let [high, low, rest @ ..] = packet.payload() else {
            return None;
        };
        let flow = usize::from(u16::from_be_bytes([*high, *low]));
        let port = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        (self.flows.get(flow)?.port == port).then_some(flow)
    }
}

/// What came out of a client's tunnel.
#[derive(Default)]
struct Inbox(Vec<Vec<u8>>);

impl TunSink for Inbox {
    fn push(&mut self, buffer: &mut [u8], range: Range<usize>) {
        self.0.push(buffer[range].to_vec());
    }

    fn push_owned(&mut self, packet: &[u8]) {
        self.0.push(packet.to_vec());
    }
}

/// The way out, from one client's own address.
struct Own<'a, O> {
    inner: &'a mut O,
    own: SocketAddr,
}

impl<O: Outbox> Outbox for Own<'_, O> {
    fn reserve(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        ecn: u8,
        len: usize,
    ) -> &mut [u8] {
        self.inner
            .reserve(Some(local.unwrap_or(self.own)), remote, ecn, len)
    }

    fn rollback(&mut self) {
        self.inner.rollback();
    }
}
