//! Conversations, and how they fail.

use std::time::Duration;

use md5::{Digest as _, Md5};
use proptest::prelude::*;
use sha2::Sha256;

use super::super::script::{Ending, judge};
use super::super::*;
use super::{http, probe, url};

/// What a conversation came to: these pieces come, and then the connection ends.
fn held(kind: &Kind, pieces: &[&[u8]]) -> Result<Pass, String> {
    let mut talk = talk(&probe(kind.clone()), 0, 7).unwrap();
    let outcome = talk.open().outcome;
    let outcome = outcome.or_else(|| {
        let mut turns = pieces.iter().map(|piece| talk.receive(piece));
        turns.find_map(|turn| turn.outcome)
    });
    let outcome = outcome.unwrap_or_else(|| talk.close());
    outcome.map_err(|failure| failure.to_string())
}

/// Whole, and byte by byte: it must not matter.
#[track_caller]
fn answered(kind: &Kind, answer: &[u8], expected: Result<(), &str>) {
    let expected = expected.map(|()| Pass::Well).map_err(str::to_owned);
    assert_eq!(held(kind, &[answer]), expected, "whole");
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(held(kind, &bytes), expected, "byte by byte");
}

#[test]
fn a_connection_is_all_that_tcp_asks_for() {
    answered(&Kind::Tcp, b"", Ok(()));
}

#[test]
fn requests_are_keepalived_s() {
    let text = |url: Url, version, port, tls: Option<Tls>| {
        let kind = Kind::Http(Http {
            urls: vec![url],
            version,
            tls,
        });
        let mut probe = probe(kind);
        probe.to.set_port(port);
        let turn = talk(&probe, 0, 0).unwrap().open();
        String::from_utf8(turn.send).unwrap()
    };
    assert_eq!(
        text(url("/a"), HttpVersion::V1_0, 80, None),
        "GET /a HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: 10.1.0.11\r\n\r\n"
    );
    assert_eq!(
        text(url("/a"), HttpVersion::V1_1, 8080, None),
        "GET /a HTTP/1.1\r\nUser-Agent: KeepAliveClient\r\nHost: 10.1.0.11:8080\r\nConnection: close\r\n\r\n"
    );
    let tls = Tls {
        trust: Trust::Anybody,
        sni: None,
    };
    let secure = text(url("/"), HttpVersion::V1_0, 443, Some(tls));
    assert!(secure.contains("Host: 10.1.0.11\r\n"), "{secure}");
    let named = Url {
        host: Some("www.example.org".to_owned()),
        ..url("/")
    };
    let named = text(named, HttpVersion::V1_0, 8080, None);
    assert!(named.contains("Host: www.example.org\r\n"), "{named}");
}

#[test]
fn a_page_has_a_status_that_will_do() {
    let usual = http(vec![url("/")]);
    answered(&usual, b"HTTP/1.0 200 OK\r\n\r\nbody", Ok(()));
    answered(&usual, b"HTTP/1.1 204 No\r\n\r\n", Ok(()));
    answered(
        &usual,
        b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        Ok(()),
    );
    answered(
        &usual,
        b"HTTP/1.1 503 Busy\r\n\r\n",
        Err("status 503, expected 200-299"),
    );
    let some = Url {
        status: vec![StatusRange(301, 302), StatusRange(404, 404)],
        ..url("/")
    };
    let some = http(vec![some]);
    answered(&some, b"HTTP/1.0 404 Gone\r\n\r\n", Ok(()));
    answered(
        &some,
        b"HTTP/1.0 200 OK\r\n\r\n",
        Err("status 200, expected 301-302, 404"),
    );
}

#[test]
fn what_is_no_answer_is_none() {
    let usual = http(vec![url("/")]);
    answered(&usual, b"", Err("closed before it answered"));
    answered(
        &usual,
        b"HTTP/1.0 200 OK\r\nContent-",
        Err("closed before the end of the answer's head"),
    );
    answered(
        &usual,
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nbody",
        Err("closed before the end of the body"),
    );
    answered(
        &usual,
        b"HTTP/1.0 200 OK\r\nContent-Length: -5\r\n\r\n",
        Err("the answer is no HTTP: its Content-Length is no number"),
    );
    let failed = |answer: &[u8]| held(&usual, &[answer]).unwrap_err();
    assert!(failed(b"SSH-2.0-x\r\n").starts_with("the answer is no HTTP: "));
    assert!(failed(b"HTTP/1.0 999999 x\r\n\r\n").starts_with("the answer is no HTTP: "));
    let mut long = b"HTTP/1.0 200 OK\r\nx: ".to_vec();
    long.resize(20_000, b'x');
    assert_eq!(
        failed(&long),
        "the answer is no HTTP: its head has more than 16384 bytes"
    );
    let many = format!("HTTP/1.0 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert_eq!(
        failed(many.as_bytes()),
        "the answer is no HTTP: too many headers"
    );
}

#[test]
fn a_body_is_summed_up_however_it_is_sent() {
    let md5 = Digest(Md5::digest(b"body").into());
    let page = Url {
        status: Vec::new(),
        digest: Some(md5),
        sha256: Some(Digest(Sha256::digest(b"body").into())),
        ..url("/")
    };
    let kind = http(vec![page]);
    for answer in [
        "HTTP/1.0 500 As digest only\r\n\r\nbody",
        "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n3;x=y\r\nody\r\n0\r\nTrailer: x\r\n\r\n",
    ] {
        answered(&kind, answer.as_bytes(), Ok(()));
    }
    let wrong = format!(
        "MD5 of the body is {}, expected {md5}",
        Digest(Md5::digest(b"tidy").into())
    );
    answered(&kind, b"HTTP/1.0 200 OK\r\n\r\ntidy", Err(&wrong));
    for (answer, what) in [
        (
            "1\r\nbody\r\n",
            "the answer is no HTTP: a chunk is longer than it says",
        ),
        (
            "x\r\n",
            "the answer is no HTTP: the size of a chunk is no number",
        ),
        ("4\r\nbo", "closed before the end of the body"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{answer}");
        answered(&kind, answer.as_bytes(), Err(what));
    }
}

#[test]
fn a_body_matches_or_must_not() {
    let page = |regex_no_match| {
        http(vec![Url {
            regex: Some(Pattern::parse("^all is w.ll$").unwrap()),
            regex_no_match,
            ..url("/")
        }])
    };
    let good = b"HTTP/1.0 200 OK\r\n\r\nall is well";
    let bad = b"HTTP/1.0 200 OK\r\n\r\nnot so";
    answered(&page(false), good, Ok(()));
    answered(&page(true), bad, Ok(()));
    answered(
        &page(false),
        bad,
        Err("the body does not match \"^all is w.ll$\""),
    );
    answered(
        &page(true),
        good,
        Err("the body matches \"^all is w.ll$\", which it must not"),
    );
}

/// Neither memory nor time are the server's to take.
#[test]
fn an_endless_body_ends() {
    let endless = |kind: &Kind| {
        let mut talk = talk(&probe(kind.clone()), 0, 0).unwrap();
        let mut turn = talk.receive(b"HTTP/1.0 200 OK\r\n\r\n");
        let mut bytes = 0;
        while turn.outcome.is_none() {
            bytes += 4096;
            turn = talk.receive(&[b'x'; 4096]);
        }
        (bytes, turn.outcome.unwrap().unwrap_err().to_string())
    };
    let (bytes, what) = endless(&http(vec![url("/")]));
    assert_eq!(bytes, (16 << 20) + 4096);
    assert_eq!(
        what,
        "the body has more than 16777216 bytes, the most that is read"
    );
    let matched = Url {
        regex: Some(Pattern::parse("y").unwrap()),
        ..url("/")
    };
    let (bytes, what) = endless(&http(vec![matched]));
    assert_eq!(bytes, 64 * 1024 + 4096);
    assert_eq!(
        what,
        "the body has more than 65536 bytes, the most that a regex is matched against"
    );
}

#[test]
fn a_mail_server_is_greeted() {
    let kind = Kind::Smtp {
        helo: "lvs.example".to_owned(),
    };
    answered(
        &kind,
        b"220-hello\r\n220 there\r\n250 so you are\r\n221 bye\r\n",
        Ok(()),
    );
    answered(&kind, b"220 a\r\n250 b\r\n", Ok(()));
    answered(&kind, b"", Err("closed before its greeting"));
    answered(&kind, b"220 a\r\n", Err("closed before its answer to HELO"));
    answered(
        &kind,
        b"554 no service\r\n",
        Err("the answer to the connection is \"554 no service\", expected 220"),
    );
    answered(
        &kind,
        b"220 a\r\n501 \x1bwho?\r\n",
        Err("the answer to HELO is \"501 ?who?\", expected 250"),
    );
    let mut talk = talk(&probe(kind), 0, 0).unwrap();
    assert_eq!(talk.open(), Turn::wait());
    assert_eq!(talk.receive(b"220 a\r\n").send, b"HELO lvs.example\r\n");
    assert_eq!(talk.receive(b"250 b\r\n").send, b"QUIT\r\n");
}

#[test]
fn a_name_server_is_asked_for_a_name() {
    let kind = Kind::Dns(Dns {
        name: "www.example.".to_owned(),
        query: 28,
    });
    let question = talk(&probe(kind.clone()), 0, 7).unwrap().open().send;
    let expected =
        b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x1c\x00\x01";
    assert_eq!(question, expected);
    let answer =
        |id: u8, flags: [u8; 2]| [&[0, id], &flags[..], &[0, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(held(&kind, &[&answer(7, [0x81, 0x80])]), Ok(Pass::Well));
    assert_eq!(
        held(&kind, &[&answer(7, [0x81, 0x83])]),
        Err("the name server answers NXDOMAIN, there is no such name".to_owned())
    );
    assert_eq!(
        held(&kind, &[&answer(7, [0x81, 0x8f])]),
        Err("the name server answers code 15".to_owned())
    );
    // Somebody else's, a question, too short: the answer may still come.
    let strange = [answer(8, [0x81, 0x80]), answer(7, [0x01, 0x00]), vec![0, 7]];
    for strange in strange {
        assert_eq!(
            held(&kind, &[&strange]),
            Err("closed before it answered".to_owned())
        );
        assert_eq!(
            held(&kind, &[&strange, &answer(7, [0x81, 0x80])]),
            Ok(Pass::Well)
        );
    }
    let root = Dns {
        name: ".".to_owned(),
        query: 6,
    };
    let question = talk(&probe(Kind::Dns(root)), 0, 7).unwrap().open().send;
    assert!(
        question.ends_with(b"\x00\x00\x00\x06\x00\x01"),
        "{question:?}"
    );
}

#[test]
fn a_datagram_is_replied_to() {
    let kind = |reply: Option<Reply>| {
        Kind::Udp(Udp {
            payload: Some(b"ask".to_vec()),
            reply,
        })
    };
    let reply = |pattern: &str| {
        kind(Some(Reply {
            pattern: Nibbles::parse(pattern).unwrap(),
            least: 2,
            most: 4,
        }))
    };
    let after = Duration::from_secs(1);
    let mut any = talk(&probe(kind(None)), 0, 0).unwrap();
    assert_eq!(any.open().send, b"ask");
    assert_eq!(any.expire(after), Ok(Pass::Well));
    let mut required = talk(&probe(reply("61")), 0, 0).unwrap();
    assert_eq!(
        required.expire(after).unwrap_err().to_string(),
        "timed out after 1000 ms, waiting for the reply"
    );
    assert_eq!(held(&kind(None), &[b"x"]), Ok(Pass::Well));
    assert_eq!(held(&kind(None), &[]), Ok(Pass::Well));
    assert_eq!(held(&reply("6X6262626262"), &[b"abb"]), Ok(Pass::Well));
    assert_eq!(
        held(&reply("6162"), &[b"axx"]),
        Err("the reply is another one than expected, from byte 2 on".to_owned())
    );
    for wrong in [&b"a"[..], b"abbbb", b""] {
        let what = format!("the reply has {} bytes, expected 2 to 4", wrong.len());
        assert_eq!(held(&reply("61"), &[wrong]), Err(what));
    }
    let random = |entropy| {
        let udp = Udp {
            payload: None,
            reply: None,
        };
        talk(&probe(Kind::Udp(udp)), 0, entropy)
            .unwrap()
            .open()
            .send
    };
    assert_eq!(random(1).len(), 16);
    assert_ne!(random(1), random(2));
}

#[test]
fn an_echo_comes_back() {
    let mut talk = talk(&probe(Kind::Ping), 0, 0x0102_0304_0506_0708).unwrap();
    let request = talk.open().send;
    assert_eq!(request[0..2], [8, 0]);
    assert_eq!(request[4..], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(shared::wire::checksum::checksum(&request), 0);
    let packet = |kind, identity: [u8; 8]| {
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet.extend_from_slice(&[kind, 0, 0, 0]);
        packet.extend_from_slice(&identity);
        packet
    };
    let ours = [1, 2, 3, 4, 5, 6, 7, 8];
    for other in [
        packet(8, ours),
        packet(0, [0; 8]),
        packet(3, ours),
        vec![0x4f],
        Vec::new(),
    ] {
        assert_eq!(talk.receive(&other), Turn::wait(), "{other:?}");
    }
    assert_eq!(talk.receive(&packet(0, ours)).outcome, Some(Ok(Pass::Well)));
}

#[test]
fn the_end_of_a_script_means_something() {
    let script = |dynamic| Script {
        command: vec!["/usr/bin/check".to_owned()],
        dynamic,
    };
    let told = |dynamic, ending| {
        let outcome = judge(&script(dynamic), &ending, b"  no\nway\n");
        outcome.map_err(|failure| failure.to_string())
    };
    assert_eq!(told(false, Ending::Exit(0)), Ok(Pass::Well));
    assert_eq!(told(true, Ending::Exit(0)), Ok(Pass::Well));
    assert_eq!(told(true, Ending::Exit(2)), Ok(Pass::Weight(0)));
    assert_eq!(told(true, Ending::Exit(255)), Ok(Pass::Weight(253)));
    for (dynamic, ending, what) in [
        (false, Ending::Exit(2), "ended with exit code 2: no"),
        (true, Ending::Exit(1), "ended with exit code 1: no"),
        (true, Ending::Signal(9), "ended with signal 9: no"),
        (
            true,
            Ending::Late(Duration::from_secs(2)),
            "timed out after 2000 ms, running",
        ),
        (
            true,
            Ending::NotStarted("no such file".to_owned()),
            "cannot run /usr/bin/check: no such file",
        ),
    ] {
        assert_eq!(told(dynamic, ending), Err(what.to_owned()));
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    let page = Url {
        digest: Digest::parse("00112233445566778899aabbccddeeff"),
        regex: Some(Pattern::parse("a+b").unwrap()),
        ..url("/")
    };
    prop::sample::select(vec![
        Kind::Tcp,
        http(vec![page, url("/")]),
        Kind::Smtp {
            helo: "x".to_owned(),
        },
        Kind::Dns(Dns {
            name: "a.b".to_owned(),
            query: 1,
        }),
        Kind::Ping,
        Kind::Udp(Udp {
            payload: None,
            reply: Some(Reply {
                pattern: Nibbles::parse("aXbX").unwrap(),
                least: 0,
                most: 255,
            }),
        }),
    ])
}

/// Something that looks like an answer, so that more than the first step is reached.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let words = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 100 \n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "\r\n",
        "5\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n",
        "220 a\r\n",
        "250-b",
        "\0\u{7}",
        "\u{80}",
    ]);
    let piece = prop_oneof![
        words.prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::vec(piece, 0..20)
}

proptest! {
    #[test]
    fn arbitrary_bytes_lead_to_an_outcome(
        kind in kinds(), pieces in pieces(), round in 0..5_usize, entropy: u64
    ) {
        let mut talk = talk(&probe(kind), round, entropy).unwrap();
        talk.open();
        for piece in &pieces {
            if talk.receive(piece).outcome.is_some() {
                break;
            }
        }
        let _ = talk.close();
        let _ = talk.expire(Duration::from_secs(1));
    }
}
