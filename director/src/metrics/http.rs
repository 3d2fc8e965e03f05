//! What HTTP clients ask for, and what is in front of the answers (RFC 9112). Every answer ends its connection.

use httparse::{EMPTY_HEADER, Error};

/// What the bytes of a client say so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Its request is not complete.
    More,
    /// It wants a page.
    Page(Page, Method),
    /// It cannot have what it wants.
    Refused(Status),
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/`: what else there is.
    Index,
    /// `/metrics`
    Metrics,
    /// `/healthz`: the loop turns.
    Health,
    /// `/readyz`: packets are forwarded.
    Readiness,
}

/// How it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// With the page itself.
    Get,
    /// Only what is in front of it.
    Head,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// It is no request.
    BadRequest,
    /// There is no such page.
    NotFound,
    /// Pages are only read.
    MethodNotAllowed,
    /// It is longer than [`MOST_BYTES`] or has too many fields.
    FieldsTooLarge,
    /// Not now.
    Unavailable,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::FieldsTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// What a client asks for; what comes behind the head of its request is not looked at.
pub fn asked(bytes: &[u8]) -> Asked {
    let mut fields = [EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if bytes.len() < MOST_BYTES => return Asked::More,
        Ok(httparse::Status::Partial) | Err(Error::TooManyHeaders) => {
            return Asked::Refused(Status::FieldsTooLarge);
        }
        Err(_) => return Asked::Refused(Status::BadRequest),
    }
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let page = match path {
        "/" => Page::Index,
        "/metrics" => Page::Metrics,
        "/healthz" => Page::Health,
        "/readyz" => Page::Readiness,
        _ => return Asked::Refused(Status::NotFound),
    };
    match request.method {
        Some("GET") => Asked::Page(page, Method::Get),
        Some("HEAD") => Asked::Page(page, Method::Head),
        _ => Asked::Refused(Status::MethodNotAllowed),
    }
}

/// What is in front of an answer of so many bytes of plain text, if that is known.
pub fn head(status: Status, page: Option<Page>, length: Option<usize>) -> String {
    let kind = match page {
        Some(Page::Metrics) => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let mut head = format!("HTTP/1.1 {}\r\nContent-Type: {kind}\r\n", status.line());
    if let Some(length) = length {
        head += &format!("Content-Length: {length}\r\n");
    }
    if status == Status::MethodNotAllowed {
        head += "Allow: GET, HEAD\r\n";
    }
    head + "Connection: close\r\n\r\n"
}

/// What a refusal says.
pub fn refusal(status: Status) -> String {
    match status {
        Status::NotFound => format!("{}\n\n{INDEX}", status.line()),
        _ => format!("{}\n", status.line()),
    }
}

/// What there is, in words.
pub const INDEX: &str = "\
/metrics  everything that is counted, for Prometheus
/healthz  200 as long as the director's loop turns
/readyz   200 while the director forwards packets, else 503 with the reason
";

/// Bytes that the head of a request may have.
pub const MOST_BYTES: usize = 8 * 1024;
const MOST_FIELDS: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(request: &str) -> Status {
        match asked(request.as_bytes()) {
            Asked::Refused(status) => status,
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn pages_are_found() {
        for (path, page) in [
            ("/", Page::Index),
            ("/metrics", Page::Metrics),
            ("/metrics?name[]=x", Page::Metrics),
            ("/healthz", Page::Health),
            ("/readyz", Page::Readiness),
        ] {
            for (word, method) in [("GET", Method::Get), ("HEAD", Method::Head)] {
                for version in ["HTTP/1.0", "HTTP/1.1"] {
                    let request = format!("{word} {path} {version}\r\nHost: x\r\n\r\n");
                    assert_eq!(asked(request.as_bytes()), Asked::Page(page, method));
                    for end in 0..request.len() {
                        assert_eq!(asked(&request.as_bytes()[..end]), Asked::More);
                    }
                }
            }
        }
    }

    #[test]
    fn others_are_refused() {
        assert_eq!(refused("GET /x HTTP/1.1\r\n\r\n"), Status::NotFound);
        assert_eq!(refused("GET /metrics/ HTTP/1.1\r\n\r\n"), Status::NotFound);
        let post = "POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(refused(post), Status::MethodNotAllowed);
        for broken in [
            "\u{16}\u{3}\u{1}",
            "GET\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "GET / HTTP/1.1\r\n\u{1}: x\r\n\r\n",
        ] {
            assert_eq!(refused(broken), Status::BadRequest, "{broken:?}");
        }
    }

    #[test]
    fn a_head_has_its_bounds() {
        let many = "a: b\r\n".repeat(MOST_FIELDS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(refused(&many), Status::FieldsTooLarge);
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MOST_BYTES));
        assert_eq!(asked(&long.as_bytes()[..MOST_BYTES - 1]), Asked::More);
        assert_eq!(refused(&long[..MOST_BYTES]), Status::FieldsTooLarge);
    }

    #[test]
    fn answers_say_what_they_are() {
        assert_eq!(
            head(Status::Ok, Some(Page::Metrics), Some(7)),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: 7\r\nConnection: close\r\n\r\n"
        );
        assert!(head(Status::MethodNotAllowed, None, None).contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(refusal(Status::NotFound).contains("/metrics"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_in_the_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            let _ = asked(&bytes);
            bytes.resize(MOST_BYTES, b'\n');
            prop_assert_ne!(asked(&bytes), Asked::More);
        }
    }
}
