//! Whose socket is at the other end of a TCP connection within this machine.
//!
//! `/proc/net/tcp` and `tcp6` (proc_net_tcp(5)) list the connections of this network
//! namespace: addresses in hexadecimal, words in the machine's own order, then among
//! others the owner's uid and the inode of the socket.
//!
//! A socket that its owner has closed may be listed with uid 0 for a while, whoever had
//! it. Such sockets have no inode, and are not believed: otherwise whoever sends a
//! request and hangs up at once would be root.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The uid of the socket that is bound to `client` and connected to `server`; `None` if
/// there is none on this machine, or it was closed already.
pub(crate) fn uid_of(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    // Not each of them is there: a kernel may lack IPv6.
    let tables = TABLES.iter().filter_map(|path| File::open(path).ok());
    tables.into_iter().find_map(|table| search(BufReader::new(table), client, server))
}

fn search(mut table: impl BufRead, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let wanted = (canonical(client), canonical(server));
    let mut line = String::new();
    loop {
        line.clear();
        if table.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(uid) = parse(&line).filter(|row| row.ends == wanted).map(|row| row.uid) {
            return Some(uid);
        }
    }
}

type End = (IpAddr, u16);

struct Row {
    ends: (End, End),
    uid: u32,
}

/// A row of a socket that somebody holds.
fn parse(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_end(fields.nth(1)?)?;
    let remote = parse_end(fields.next()?)?;
    let uid = fields.nth(4)?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    (inode != 0).then_some(Row { ends: (local, remote), uid })
}

/// `0100007F:1F90`, or four such words before the colon.
fn parse_end(text: &str) -> Option<End> {
    let (addr, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| -> Option<[u8; 4]> {
        let digits = addr.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let addr = match addr.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some((addr.to_canonical(), port))
}

fn canonical(addr: SocketAddr) -> End {
    (addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::{search, uid_of};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    #[cfg(target_endian = "little")]
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:0801 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     7        0 12 1 0 20 4 30 10 -1
   2: 0100007F:9C40 0100007F:0801 01 00000000:00000000 00:00000000 00000000  1000        0 13 1 0 20 4 30 10 -1
   3: 0100007F:9C41 0100007F:0801 06 00000000:00000000 03:00000B2C 00000000     0        0 0 3 0
   4: 0000000000000000FFFF00000100007F:9C42 0000000000000000FFFF00000100007F:0801 01 0:0 00:0 0 1001 0 14 1
   5: 00000000000000000000000001000000:9C43 00000000000000000000000001000000:0801 01 0:0 00:0 0 1002 0 15 1
   6: garbage
";

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_are_read_as_documented() {
        let find = |client: &str, server: &str| {
            let client: SocketAddr = client.parse().unwrap();
            search(TABLE.as_bytes(), client, server.parse().unwrap())
        };
        assert_eq!(find("127.0.0.1:40000", "127.0.0.1:2049"), Some(1000));
        assert_eq!(find("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:2049"), Some(1000));
        assert_eq!(find("127.0.0.1:40002", "127.0.0.1:2049"), Some(1001));
        assert_eq!(find("[::1]:40003", "[::1]:2049"), Some(1002));
        // Closed: the 0 in its row is nobody's uid.
        assert_eq!(find("127.0.0.1:40001", "127.0.0.1:2049"), None);
        assert_eq!(find("127.0.0.1:40004", "127.0.0.1:2049"), None);
        assert_eq!(find("127.0.0.1:40000", "127.0.0.2:2049"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_closed_socket_belongs_to_nobody() {
        for any in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else {
                println!("skipped: this machine has no {any}");
                continue;
            };
            let server = listener.local_addr().unwrap();
            let client = TcpStream::connect(server).unwrap();
            let from = client.local_addr().unwrap();
            let held = listener.accept().unwrap();
            let own = rustix::process::getuid().as_raw();
            assert_eq!(uid_of(from, server), Some(own), "{any}");
            drop(client);
            assert_eq!(uid_of(from, server), None, "{any}");
            drop(held);
        }
    }
}
