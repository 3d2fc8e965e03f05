//! The words of FTP that say where data goes (RFC 959, RFC 2428).

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::str;

use shared::addr::Family;

/// Where data is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::core) struct Announcement {
    /// Where in the segment's data that stands.
    pub(in crate::core) at: Range<usize>,
    /// None: to the other end of the control connection.
    pub(in crate::core) address: Option<IpAddr>,
    pub(in crate::core) port: u16,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `h1,h2,h3,h4,p1,p2`
    Six,
    /// `|1|address|port|`, with this character between.
    Full(u8),
    /// `|||port|`, the same.
    Port(u8),
}

impl Announcement {
    /// Whether its form has room for addresses of a family.
    pub(in crate::core) fn has_room_for(&self, family: Family) -> bool {
        self.form != Form::Six || family == Family::V4
    }

    /// The same for another place, in the same form; none if that has no room for such an address.
    pub(in crate::core) fn written(&self, address: IpAddr, port: u16) -> Option<String> {
        match (self.form, address) {
            (Form::Six, IpAddr::V4(v4)) => {
                let ([a, b, c, d], [high, low]) = (v4.octets(), port.to_be_bytes());
                Some(format!("{a},{b},{c},{d},{high},{low}"))
            }
            (Form::Six, IpAddr::V6(_)) => None,
            (Form::Full(between), address) => {
                let between = char::from(between);
                let family = if address.is_ipv4() { 1 } else { 2 };
                Some(format!(
                    "{between}{family}{between}{address}{between}{port}{between}"
                ))
            }
            (Form::Port(between), _) => {
                let between = char::from(between);
                Some(format!("{between}{between}{between}{port}{between}"))
            }
        }
    }
}

/// What a client's segment says: `PORT` or `EPRT`.
pub(in crate::core) fn of_client(data: &[u8]) -> Option<Announcement> {
    lines(data).find_map(|(at, line)| {
        let (word, rest) = line.split_at_checked(5)?;
        let at = at + 5;
        match word.to_ascii_uppercase().as_slice() {
            b"PORT " => six(rest, at),
            b"EPRT " => full(rest, at),
            _ => None,
        }
    })
}

/// What a server's segment says: reply 227 to `PASV`, or 229 to `EPSV`.
pub(in crate::core) fn of_server(data: &[u8]) -> Option<Announcement> {
    lines(data).find_map(|(at, line)| {
        let (word, rest) = line.split_at_checked(4)?;
        let at = at + 4;
        match word {
            // The parenthesis is not always there (RFC 1123 section 4.1.2.6).
            b"227 " => {
                let begin = rest.iter().position(u8::is_ascii_digit)?;
                six(&rest[begin..], at + begin)
            }
            b"229 " => {
                let begin = 1 + rest.iter().position(|&byte| byte == b'(')?;
                port_alone(&rest[begin..], at + begin)
            }
            _ => None,
        }
    })
}

/// The whole lines of the first bytes, with where they begin, without their ends.
fn lines(data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let data = &data[..data.len().min(MOST_BYTES)];
    let mut at = 0;
    data.split_inclusive(|&byte| byte == b'\n')
        .filter_map(move |line| {
            let begin = at;
            at += line.len();
            let line = line.strip_suffix(b"\n")?;
            Some((begin, line.strip_suffix(b"\r").unwrap_or(line)))
        })
}

fn six(text: &[u8], at: usize) -> Option<Announcement> {
    let is_of_it = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    let length = text.iter().take_while(|byte| is_of_it(byte)).count();
    let mut numbers = [0_u8; 6];
    let mut parts = text[..length].split(|&byte| byte == b',');
    for number in &mut numbers {
        *number = decimal(parts.next()?)?.try_into().ok()?;
    }
    let [a, b, c, d, high, low] = numbers;
    parts.next().is_none().then_some(Announcement {
        at: at..at + length,
        address: Some(Ipv4Addr::new(a, b, c, d).into()),
        port: u16::from_be_bytes([high, low]),
        form: Form::Six,
    })
}

fn full(text: &[u8], at: usize) -> Option<Announcement> {
    let (&between, rest) = text.split_first()?;
    let mut parts = rest.split(|&byte| byte == between);
    let (family, address, port) = (parts.next()?, parts.next()?, parts.next()?);
    // There is one behind the port as well.
    parts.next()?;
    let length = 1 + family.len() + 1 + address.len() + 1 + port.len() + 1;
    let address: IpAddr = str::from_utf8(address).ok()?.parse().ok()?;
    let is_it = match family {
        b"1" => address.is_ipv4(),
        b"2" => address.is_ipv6(),
        _ => false,
    };
    is_it.then_some(Announcement {
        at: at..at + length,
        address: Some(address),
        port: decimal(port)?,
        form: Form::Full(between),
    })
}

fn port_alone(text: &[u8], at: usize) -> Option<Announcement> {
    let (&between, rest) = text.split_first()?;
    let rest = rest.strip_prefix(&[between, between])?;
    let length = rest.iter().position(|&byte| byte == between)?;
    Some(Announcement {
        at: at..at + 3 + length + 1,
        address: None,
        port: decimal(&rest[..length])?,
        form: Form::Port(between),
    })
}

fn decimal(text: &[u8]) -> Option<u16> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

/// What is looked at of a segment: a control connection's lines are short.
const MOST_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(data: &str) -> Option<(&str, Option<String>, u16)> {
        shown(data, of_client(data.as_bytes())?)
    }

    fn server(data: &str) -> Option<(&str, Option<String>, u16)> {
        shown(data, of_server(data.as_bytes())?)
    }

    fn shown(data: &str, found: Announcement) -> Option<(&str, Option<String>, u16)> {
        let address = found.address.map(|address| address.to_string());
        Some((&data[found.at], address, found.port))
    }

    fn at(address: &str) -> Option<String> {
        Some(address.to_owned())
    }

    #[test]
    fn clients_and_servers_say_where() {
        let six = ("10,0,0,10,156,64", at("10.0.0.10"), 40000);
        for line in [
            "PORT 10,0,0,10,156,64\r\n",
            "port 10,0,0,10,156,64\n",
            "NOOP\r\nPORT 10,0,0,10,156,64\r\nLIST\r\n",
        ] {
            assert_eq!(client(line), Some(six.clone()), "{line}");
        }
        for line in [
            "227 Entering Passive Mode (10,0,0,10,156,64).\r\n",
            "227 Entering Passive Mode 10,0,0,10,156,64\r\n",
            "200 Fine.\r\n227 =10,0,0,10,156,64\r\n",
        ] {
            assert_eq!(server(line), Some(six.clone()), "{line}");
        }
        assert_eq!(
            client("EPRT |1|10.0.0.10|40000|\r\n"),
            Some(("|1|10.0.0.10|40000|", at("10.0.0.10"), 40000))
        );
        assert_eq!(
            client("eprt !2!2001:db8::7!5282!\r\n"),
            Some(("!2!2001:db8::7!5282!", at("2001:db8::7"), 5282))
        );
        assert_eq!(
            server("229 Entering Extended Passive Mode (|||6446|)\r\n"),
            Some(("|||6446|", None, 6446))
        );
    }

    #[test]
    fn what_is_not_whole_or_no_place_is_left() {
        for line in [
            "PORT 10,0,0,10,156,64",
            "PORT 10,0,0,10,156\r\n",
            "PORT 10,0,0,10,156,64,1\r\n",
            "PORT 10,0,0,256,156,64\r\n",
            "PORT 10,0,0,,156,64\r\n",
            "PORT +1,0,0,1,156,64\r\n",
            "XPORT 10,0,0,10,156,64\r\n",
            "EPRT |1|10.0.0.10|40000\r\n",
            "EPRT |1|::1|40000|\r\n",
            "EPRT |3|10.0.0.10|40000|\r\n",
            "EPRT |1|10.0.0.10|70000|\r\n",
            "EPRT \r\n",
            "RETR 227 (10,0,0,10,156,64)\r\n",
        ] {
            assert_eq!(client(line), None, "{line}");
        }
        for line in [
            "227-Entering Passive Mode (10,0,0,10,156,64).\r\n",
            "227 nowhere\r\n",
            "229 (||6446|)\r\n",
            "229 (|||6446)\r\n",
            "229 |||6446|\r\n",
            "229 (\r\n",
            "PORT 10,0,0,10,156,64\r\n",
        ] {
            assert_eq!(server(line), None, "{line}");
        }
        let endless = "a".repeat(MOST_BYTES) + "\nPORT 10,0,0,10,156,64\r\n";
        assert_eq!(client(&endless), None);
    }

    #[test]
    fn another_place_is_written_in_the_same_form() {
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
        for (line, address, written) in [
            ("PORT 1,2,3,4,5,6\r\n", v4, Some("192,0,2,1,4,210")),
            ("PORT 1,2,3,4,5,6\r\n", v6, None),
            ("EPRT |1|1.2.3.4|9|\r\n", v4, Some("|1|192.0.2.1|1234|")),
            ("EPRT #2#::1#9#\r\n", v6, Some("#2#2001:db8::1#1234#")),
        ] {
            let found = of_client(line.as_bytes()).unwrap();
            assert_eq!(found.written(address, 1234).as_deref(), written, "{line}");
        }
        let found = of_server(b"229 x (|||9|)\r\n").unwrap();
        assert_eq!(found.written(v6, 1234).as_deref(), Some("|||1234|"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(data: Vec<u8>) {
            of_client(&data);
            of_server(&[b"227 ", data.as_slice(), b"\n"].concat());
            of_server(&[b"229 (", data.as_slice(), b"\n"].concat());
            of_client(&[b"EPRT ", data.as_slice(), b"\n"].concat());
        }
    }
}
