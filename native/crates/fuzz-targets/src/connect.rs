//! Finding paths, with a genuine peer, a relay and whoever else sends datagrams or signals candidates.

use std::net::SocketAddr;
use std::time::Duration;

use crate::input::Input;
use crate::puppet::{PEER, Puppet};
use crate::world::{RELAY_V4, STRANGER, World, host_address, relay_address};

/// Bits of the first byte.
const CONNECTED: u8 = 1;
const RELAYED: u8 = 2;
const CONTROLLED: u8 = 4;

/// The input begins with the state to start from; the rest is a script. Only the genuine peer's addresses are ever selected.
pub fn connect(input: &[u8]) -> bool {
    let mut script = Input::new(input);
    let start = script.byte();
    let is_controlling = start & CONTROLLED == 0;
    let mut world = World::new(start & RELAYED == 0, |now| {
        (
            Puppet::new(0, is_controlling, now),
            Puppet::new(1, !is_controlling, now),
        )
    });
    world.drive_a(Puppet::drain);
    world.drive_b(Puppet::drain);
    world.run(Duration::from_secs(1));
    if start & CONNECTED != 0 {
        world.drive_b(Puppet::meet);
        world.drive_a(Puppet::meet);
        world.run(Duration::from_secs(1));
    }
    let mut understood = false;
    while let Some(step) = script.step() {
        match step % 10 {
            0 => {
                let from = source(script.byte());
                let mut datagram = script.bytes().to_vec();
                receive(&mut world, from, &mut datagram);
            }
            1 => {
                let candidate = String::from_utf8_lossy(script.bytes()).into_owned();
                understood |= world.drive_a(|end, now, wire| {
                    let taken = end.node.add_remote_candidate(PEER, &candidate, now);
                    end.drain(now, wire);
                    taken
                });
            }
            2 => {
                let candidate = String::from_utf8_lossy(script.bytes()).into_owned();
                world.drive_a(|end, now, wire| {
                    end.node.remove_remote_candidate(PEER, &candidate, now);
                    end.drain(now, wire);
                });
            }
            3 => world.run(Duration::from_millis(u64::from(script.byte()) * 100)),
            4 => world.alter(script.short(), script.byte()),
            5 => world.repeat(),
            6 => world.drive_a(Puppet::meet),
            7 => world.drive_b(Puppet::meet),
            8 => world.drive_a(|end, now, wire| {
                end.node.note_activity(PEER, now);
                end.node.note_relayed(1, now);
                end.drain(now, wire);
            }),
            _ => {
                world.direct = !world.direct;
            }
        }
        if let Some(path) = world.a.node.path(PEER) {
            understood = true;
            let remote = path.remote;
            assert!(
                remote == host_address(1) || remote.ip() == RELAY_V4,
                "{remote} is none of the peer's addresses"
            );
        }
    }
    understood
}

fn receive(world: &mut World<Puppet, Puppet>, from: SocketAddr, datagram: &mut [u8]) {
    use crate::world::End;
    let (local, stride) = (host_address(0), datagram.len());
    world.drive_a(|end, now, wire| end.receive(from, local, stride, datagram, now, wire));
}

/// Anybody may forge a source address.
pub fn source(choice: u8) -> SocketAddr {
    match choice % 4 {
        0 => relay_address(),
        1 => host_address(1),
        2 => STRANGER,
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 3478)),
    }
}
