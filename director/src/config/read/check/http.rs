//! Checks of type `http` and `https`.

use std::fmt::Display;
use std::path::PathBuf;

use shared::config::{Notes, Placed, Section, word};

use super::{Layers, is_absolute};
use crate::config::words;
use crate::health::checks::{
    Digest, Dns, Http, HttpVersion, Pattern, StatusRange, Tls, Trust, Url,
};

pub(super) fn http(notes: &mut Notes<'_>, layers: Layers<'_, '_>, kind: &str) -> Option<Http> {
    let version = layers.of("http_version").text(notes, "http_version");
    let version =
        version.and_then(|given| word(notes, "http_version", given, &words::HTTP_VERSIONS));
    let tls = (kind == "https").then(|| tls(notes, layers));
    Some(Http {
        urls: urls(notes, layers)?,
        version: match version {
            Some("1.1") => HttpVersion::V1_1,
            _ => HttpVersion::V1_0,
        },
        tls,
    })
}

/// Those of `urls`, or the one that stands in the section itself.
fn urls(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Option<Vec<Url>> {
    let several = layers.of("urls");
    // A server's own page counts more than the pages of its service.
    let single = words::CHECK_URL.known.iter();
    let single = single.filter_map(|key| layers.own.place(key)).min();
    if several.lacks("urls") || several.at != layers.own.at && single.is_some() {
        return Some(vec![url(notes, layers)]);
    }
    if let Some(at) = single {
        let fault = "with `urls' each of them says what is expected of it; write all pages there";
        notes.fault(at, fault);
    }
    let sections = several.tables(notes, "urls", &words::CHECK_URL);
    let urls = sections
        .into_iter()
        .map(|own| url(notes, Layers { own, base: None }));
    let urls: Vec<Url> = urls.collect();
    if urls.is_empty() {
        let at = several.place("urls").unwrap_or(several.at);
        notes.missing(at, "`urls' has no page; write urls = [{ path = \"/\" }]");
    }
    (!urls.is_empty()).then_some(urls)
}

fn url(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Url {
    let path = layers.of("path").text(notes, "path");
    if let Some(path) = path
        && (!path.value.starts_with('/') || !is_visible(path.value))
    {
        let fault = format!("`path' is {:?}; write one such as \"/healthz\"", path.value);
        notes.fault(path.at, fault);
    }
    let host = layers.of("host").text(notes, "host");
    if let Some(host) = host
        && (host.value.is_empty() || !is_visible(host.value))
    {
        let fault = format!(
            "`host' is {:?}; write one such as \"www.example.org\"",
            host.value
        );
        notes.fault(host.at, fault);
    }
    let status = layers
        .of("status")
        .number_ranges(notes, "status", 100..=599);
    let status = status.into_iter();
    let mut status: Vec<StatusRange> = status
        .map(|range| StatusRange(*range.start() as u16, *range.end() as u16))
        .collect();
    let digest = sum(
        notes,
        layers.of("digest"),
        "digest",
        Digest::parse,
        "md5sum",
    );
    let sha256 = sum(
        notes,
        layers.of("sha256"),
        "sha256",
        Digest::parse,
        "sha256sum",
    );
    if status.is_empty() && digest.is_none() && sha256.is_none() {
        status.push(SUCCESS);
    }
    let (regex, regex_no_match) = regex(notes, layers);
    Url {
        path: path.map_or("/", |path| path.value).to_owned(),
        host: host.map(|host| host.value.to_owned()),
        status,
        digest,
        sha256,
        regex,
        regex_no_match,
    }
}

fn sum<const BYTES: usize>(
    notes: &mut Notes<'_>,
    section: Section<'_, '_>,
    key: &str,
    parse: impl Fn(&str) -> Option<Digest<BYTES>>,
    program: impl Display,
) -> Option<Digest<BYTES>> {
    let text = section.text(notes, key)?;
    let sum = parse(text.value);
    if sum.is_none() {
        let digits = BYTES * 2;
        let fault = format!(
            "`{key}' is {:?}; write the {digits} hexadecimal digits that `curl -s URL | {program}' prints",
            text.value
        );
        notes.fault(text.at, fault);
    }
    sum
}

fn regex(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> (Option<Pattern>, bool) {
    let text = layers.of("regex").text(notes, "regex");
    let no_match = layers.of("regex_no_match").truth(notes, "regex_no_match");
    if let (None, Some(no_match)) = (text, no_match) {
        notes.fault(
            no_match.at,
            "there is nothing to match; write regex = \"...\"",
        );
    }
    let pattern = text.and_then(|text| match Pattern::parse(text.value) {
        Ok(pattern) => Some(pattern),
        Err(what) => {
            let fault = format!(
                "`regex' is no regular expression: {what}; write one of the crate regex (docs.rs/regex), in which \
                 a backslash is best written in single quotes"
            );
            notes.fault(text.at, fault);
            None
        }
    });
    (pattern, no_match.is_some_and(|no_match| no_match.value))
}

fn tls(notes: &mut Notes<'_>, layers: Layers<'_, '_>) -> Tls {
    let verify = layers.of("verify").truth(notes, "verify");
    let ca_file = layers.of("ca_file").text(notes, "ca_file");
    let sni = layers.of("sni").text(notes, "sni");
    if let Some(file) = ca_file
        && !is_absolute(file.value)
    {
        let fault = format!(
            "`ca_file' is {:?}, which depends on where the director is started; write a path from the root",
            file.value
        );
        notes.fault(file.at, fault);
    }
    if let (Some(Placed { value: false, at }), Some(_)) = (verify, ca_file) {
        notes.fault(
            at,
            "with `ca_file' certificates are verified; leave `verify' or `ca_file' out",
        );
    }
    if let Some(sni) = sni
        && (!Dns::is_name(sni.value) || sni.value.parse::<std::net::IpAddr>().is_ok())
    {
        let fault = format!(
            "`sni' is {:?}; write a name such as \"www.example.org\"",
            sni.value
        );
        notes.fault(sni.at, fault);
    }
    let trust = match (ca_file, verify) {
        (Some(file), _) => Trust::File(PathBuf::from(file.value)),
        (None, Some(Placed { value: true, .. })) => Trust::Host,
        (None, _) => Trust::Anybody,
    };
    Tls {
        trust,
        sni: sni.map(|sni| sni.value.to_owned()),
    }
}

/// Whether it can stand in a line of a request without ending it, or a word of it.
fn is_visible(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_control() || letter.is_whitespace())
}

const SUCCESS: StatusRange = StatusRange(200, 299);
