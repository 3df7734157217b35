//! The server behind the gateway: it sends back what it gets, on several ports, so that what waits for it finds room.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::{RESOURCE, Result};

pub const FIRST_PORT: u16 = 7_000;
pub const PORTS: usize = 16;
const RECEIVE_BUFFER: usize = 4 << 20;

pub fn run() -> Result<()> {
    let mut threads = Vec::new();
    for port in (FIRST_PORT..).take(PORTS) {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&SocketAddr::new(RESOURCE.parse()?, port).into())?;
        threads.push(thread::spawn(move || send_back(&socket.into())));
    }
    for thread in threads {
        thread.join().map_err(|_| "a server has ended")?;
    }
    Ok(())
}

fn send_back(socket: &UdpSocket) {
    let mut buffer = [0; 2_048];
    loop {
        // What cannot be sent back is lost, as on any network.
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}
