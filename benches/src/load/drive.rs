//! One connection and the clients that share it, in one task: reads what came, answers, sends what is next.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ketch_proto::tonic::Status;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::connection::{Answer, Connection};
use super::plan::Plan;
use super::request::Requests;
use super::run::{Samples, Schedule, connect};

/// Between two attempts to connect again.
const AGAIN: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Driver<'a> {
    schedule: &'a Schedule,
    address: String,
    path: &'static str,
    clients: Vec<Client<'a>>,
    /// Clients whose last request was answered.
    idle: Vec<usize>,
    /// Clients that have drawn a request which is not due yet; requests come in their order.
    early: VecDeque<(usize, u64, Instant)>,
    message: Vec<u8>,
    samples: Samples,
}

struct Client<'a> {
    requests: Requests<'a>,
    /// Where the latency of its request under way counts from.
    since: Instant,
}

impl<'a> Driver<'a> {
    /// The clients with the numbers `clients`, on a connection to `address`.
    pub(super) fn new(
        plan: &'a Plan,
        schedule: &'a Schedule,
        address: String,
        clients: impl Iterator<Item = usize>,
    ) -> Driver<'a> {
        let since = Instant::now();
        let clients: Vec<_> =
            clients.map(|number| Client { requests: Requests::new(plan, number), since }).collect();
        Driver {
            schedule,
            address,
            path: plan.operation.path(),
            idle: (0..clients.len()).rev().collect(),
            clients,
            early: VecDeque::new(),
            message: Vec::new(),
            samples: Samples::default(),
        }
    }

    /// Sends until the schedule ends and the last answer is there.
    pub(super) async fn run(mut self, socket: TcpStream) -> Samples {
        let mut socket = Some(socket);
        loop {
            let mut connection = Connection::new(&self.address, self.path);
            let broken = match socket.take() {
                Some(mut socket) => match self.converse(&mut socket, &mut connection).await {
                    Ok(()) => return self.samples,
                    Err(error) => error,
                },
                None => match connect(&self.address).await {
                    Ok(again) => {
                        socket = Some(again);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let status = Status::unavailable(broken.to_string());
            let lost: Vec<_> = connection.under_way().collect();
            if lost.is_empty() {
                // Nobody could even ask: what the next client wants fails.
                match self.schedule.draw() {
                    Some(_) => self.samples.failed(&status),
                    None => {
                        self.early.iter().for_each(|_| self.samples.failed(&status));
                        return self.samples;
                    }
                }
            }
            for client in lost {
                self.samples.failed(&status);
                self.idle.push(client);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn converse(&mut self, socket: &mut TcpStream, connection: &mut Connection) -> io::Result<()> {
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut answers = Vec::new();
        loop {
            self.send(connection);
            let due = self.early.front().map(|(_, _, due)| *due);
            if due.is_none() && connection.is_idle() {
                return Ok(());
            }
            if let Some(due) = due
                && timer.deadline().into_std() != due
            {
                timer.as_mut().reset(due.into());
            }
            poll_fn(|context| {
                let moved = exchange(socket, connection, &mut answers, context)?;
                let turn = due.is_some() && timer.as_mut().poll(context).is_ready();
                if moved || turn { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
            })
            .await?;
            let now = Instant::now();
            for (client, outcome) in answers.drain(..) {
                match outcome {
                    Ok(()) => self.samples.succeeded(now - self.clients[client].since),
                    Err(status) => self.samples.failed(&status),
                }
                self.idle.push(client);
            }
        }
    }

    /// Whatever is due. A request that is late because all clients were busy counts from when it was due; one that waited for its
    /// turn from now, so that the coarseness of the timer is not charged to the server.
    fn send(&mut self, connection: &mut Connection) {
        let now = Instant::now();
        while let Some(&(client, ticket, _)) = self.early.front().filter(|(_, _, due)| *due <= now) {
            self.early.pop_front();
            self.ask(connection, client, ticket, now);
        }
        while let Some(client) = self.idle.pop() {
            let Some(ticket) = self.schedule.draw() else {
                self.idle.clear();
                break;
            };
            match self.schedule.due(ticket) {
                Some(due) if due > now => self.early.push_back((client, ticket, due)),
                Some(due) => self.ask(connection, client, ticket, due),
                None => self.ask(connection, client, ticket, now),
            }
        }
    }

    fn ask(&mut self, connection: &mut Connection, client: usize, ticket: u64, since: Instant) {
        let asking = &mut self.clients[client];
        asking.since = since;
        self.message.clear();
        asking.requests.encode(ticket, &mut self.message);
        connection.request(client, &self.message);
    }
}

/// Gives the socket what waits and takes what has come; whether either went on.
fn exchange(
    socket: &mut TcpStream,
    connection: &mut Connection,
    answers: &mut Vec<Answer>,
    context: &mut Context<'_>,
) -> io::Result<bool> {
    let mut moved = false;
    while !connection.output.rest().is_empty() {
        let Poll::Ready(count) = Pin::new(&mut *socket).poll_write(context, connection.output.rest()) else {
            break;
        };
        connection.output.advance(count?);
        moved = true;
    }
    let mut room = ReadBuf::new(connection.room());
    if let Poll::Ready(outcome) = Pin::new(socket).poll_read(context, &mut room) {
        outcome?;
        let count = room.filled().len();
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        connection.receive(count, answers)?;
        moved = true;
    }
    Ok(moved)
}
