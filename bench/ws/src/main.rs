//! WebSocket for the bench and the soak: an origin that echoes, and a load that sends a message, waits for its echo, and
//! sends the next. One thread each, so that what it costs is easy to pin.
//!
//! `ws echo IP:PORT...` serves until it is ended.
//! `ws load IP:PORT CONNECTIONS SECONDS [MESSAGES-A-SECOND]` prints `MESSAGES SECONDS P50-µs P99-µs LOST`; the rate is that
//! of all connections together, without one they send as fast as answers come.

use std::process::exit;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_async, client_async};

const PAYLOAD: &str = "a message of one hundred and twenty-eight bytes, which is about what a chat, a price or a position on a map takes on the wire...";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo", addresses @ ..] if !addresses.is_empty() => {
            for address in addresses {
                let listener = TcpListener::bind(address).await.expect("an address that can be bound");
                tokio::spawn(echo(listener));
            }
            std::future::pending::<()>().await;
        }
        ["load", address, connections, seconds, rate @ ..] => {
            let connections: u32 = connections.parse().expect("a number of connections");
            let time = Duration::from_secs_f64(seconds.parse().expect("seconds"));
            let rate = rate.first().map(|text| text.parse::<f64>().expect("messages a second"));
            let pace = rate.map(|rate| Duration::from_secs_f64(f64::from(connections) / rate));
            load(address, connections, time, pace).await;
        }
        _ => {
            eprintln!("usage: ws echo IP:PORT... | ws load IP:PORT CONNECTIONS SECONDS [RATE]");
            exit(64);
        }
    }
}

async fn echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            let Ok(mut socket) = accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn load(address: &str, connections: u32, time: Duration, pace: Option<Duration>) {
    let started = Instant::now();
    let talks: Vec<_> =
        (0..connections).map(|_| tokio::spawn(talk(address.to_owned(), started + time, pace))).collect();
    let (mut waits, mut lost) = (Vec::new(), 0);
    for talk in talks {
        let (more, ended) = talk.await.expect("a talk does not panic");
        waits.extend(more);
        lost += u32::from(ended.is_err());
    }
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{} {:.3} {} {} {lost}", waits.len(), started.elapsed().as_secs_f64(), at(0.5), at(0.99));
}

/// One connection until the time is over or it breaks: how long each echo took, in microseconds.
async fn talk(address: String, until: Instant, pace: Option<Duration>) -> (Vec<u32>, Result<(), Error>) {
    let mut waits = Vec::new();
    let ended = messages(&address, until, pace, &mut waits).await;
    (waits, ended)
}

async fn messages(address: &str, until: Instant, pace: Option<Duration>, waits: &mut Vec<u32>) -> Result<(), Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(format!("ws://{address}/ws"), stream).await?;
    let mut ticks = pace.map(tokio::time::interval);
    while Instant::now() < until {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let sent = Instant::now();
        socket.send(Message::text(PAYLOAD)).await?;
        match socket.next().await {
            Some(Ok(message)) if message.is_text() => waits.push(sent.elapsed().as_micros() as u32),
            Some(Err(error)) => return Err(error),
            _ => return Err(Error::ConnectionClosed),
        }
    }
    socket.close(None).await
}
