//! The gateway's process: commands come in as lines on standard input, events go out as lines, a JSON array each. The line
//! `figures` asks for what the process has cost.

use std::io::{BufRead, Write};
use std::process::Command as Process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use wardgate_datapath::command::Command;
use wardgate_datapath::event::{self, Event};
use wardgate_datapath::tunnel::Role;
use wardgate_io::{TunnelHost, TunnelHostConfig};

use crate::clients::GATEWAY_KEY;
use crate::{INTERFACE, RESOURCE, Result};

/// How often events are passed on.
const PACE: Duration = Duration::from_millis(5);

pub fn run() -> Result<()> {
    let host = Arc::new(TunnelHost::open(TunnelHostConfig {
        role: Role::Gateway,
        private_key: GATEWAY_KEY,
        tun_name: INTERFACE.to_owned(),
        tun_device: None,
        listen_port: 52_625,
        firewall_mark: None,
    })?);
    for command in [
        format!("link set {INTERFACE} mtu 1280 txqueuelen 10000 up"),
        format!("route add 100.64.0.0/11 dev {INTERFACE} src {RESOURCE}"),
    ] {
        if !Process::new("ip")
            .args(command.split(' '))
            .status()?
            .success()
        {
            return Err(format!("ip {command} failed").into());
        }
    }
    let events = host.clone();
    thread::spawn(move || {
        loop {
            let (reports, others): (Vec<Event>, Vec<Event>) = events
                .drain_events()
                .into_iter()
                .partition(|event| matches!(event, Event::FlowsReported { .. }));
            // Written as they would be for Python, but nobody here wants them.
            std::hint::black_box(event::encode(&reports));
            if !others.is_empty() {
                say(&event::encode(&others));
            }
            thread::sleep(PACE);
        }
    });
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "figures" => say(figures(&host)?.to_string().as_bytes()),
            line => {
                if let Err(refused) = host.apply(Command::parse(line.as_bytes())?)? {
                    eprintln!("gateway: {refused}: {line}");
                }
            }
        }
    }
    Ok(())
}

fn say(line: &[u8]) {
    let mut out = std::io::stdout().lock();
    // Whoever has nobody to listen ends with them.
    if out
        .write_all(line)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}

fn figures(host: &TunnelHost) -> Result<serde_json::Value> {
    let stats: serde_json::Map<_, _> = host
        .stats()?
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Ok(json!([{"event": "figures", "stats": stats, "cpu_ns": cpu_time_ns()?, "memory": memory()?}]))
}

/// Nanoseconds that the I/O thread has run.
fn cpu_time_ns() -> Result<u64> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.starts_with("wardgate-tunnel") {
            let text = std::fs::read_to_string(task.join("schedstat"))?;
            return Ok(text.split(' ').next().unwrap_or_default().parse()?);
        }
    }
    Err("the I/O thread has no name".into())
}

/// Bytes of this process that are in memory.
fn memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kibibytes.ok_or("no VmRSS")?.trim().parse::<u64>()? * 1024)
}
