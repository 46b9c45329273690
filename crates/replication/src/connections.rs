//! The connections of a node, found by their client without a walk: every command and every reply
//! asks for one, mostly for the same as the one before.

use crate::ClientId;
use crate::connection::Connection;
use alloc::vec::Vec;
use hashbrown::HashTable;

/// 2^64 divided by the golden ratio: spreads numbers that are close to each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The connections that have asked something and have not gone.
#[derive(Default)]
pub struct Connections {
    /// Each client's place. A client's number is given by its node, not by the client, and nothing
    /// shows the table's order.
    places: HashTable<(ClientId, usize)>,
    all: Vec<Connection>,
    free: Vec<usize>,
    /// The client that was looked up last.
    newest: Option<(ClientId, usize)>,
}

impl Connections {
    /// The connection of a client that asks something.
    #[inline]
    pub fn open(&mut self, client: ClientId) -> &mut Connection {
        let place = match self.place(client) {
            Some(place) => place,
            None => self.admit(client),
        };
        // A place that was found is a place that exists.
        &mut self.all[place]
    }

    /// The connection of a client, unless it has gone.
    #[inline]
    pub fn get(&mut self, client: ClientId) -> Option<&mut Connection> {
        let place = self.place(client)?;
        self.all.get_mut(place)
    }

    /// A client has gone.
    pub fn close(&mut self, client: ClientId) {
        self.newest = None;
        let found = self.places.find_entry(hash(client), |(known, _)| *known == client);
        if let Ok(entry) = found {
            let ((_, place), _) = entry.remove();
            if let Some(connection) = self.all.get_mut(place) {
                *connection = Connection::default();
            }
            self.free.push(place);
        }
    }

    #[inline]
    fn place(&mut self, client: ClientId) -> Option<usize> {
        match self.newest {
            Some((newest, place)) if newest == client => Some(place),
            _ => self.look_up(client),
        }
    }

    fn look_up(&mut self, client: ClientId) -> Option<usize> {
        let (_, place) = *self.places.find(hash(client), |(known, _)| *known == client)?;
        self.newest = Some((client, place));
        Some(place)
    }

    fn admit(&mut self, client: ClientId) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.all.push(Connection::default());
            self.all.len() - 1
        });
        self.places.insert_unique(hash(client), (client, place), |(client, _)| hash(*client));
        self.newest = Some((client, place));
        place
    }
}

fn hash(client: ClientId) -> u64 {
    let spread = client.0.wrapping_mul(SPREAD);
    spread ^ (spread >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::LastWrite;

    fn mark(acks: u16) -> Option<LastWrite> {
        Some(LastWrite::Copies { acks, synced: true })
    }

    #[test]
    fn each_client_has_its_own_connection_until_it_goes() {
        let mut connections = Connections::default();
        for client in 0..100 {
            connections.open(ClientId(client)).last_write = mark(client as u16);
        }
        for client in (0..100).step_by(2) {
            connections.close(ClientId(client));
        }
        for client in 0..100 {
            let kept = connections.get(ClientId(client)).map(|connection| connection.last_write);
            let expected = (client % 2 == 1).then(|| mark(client as u16));
            assert_eq!(kept, expected, "client {client}");
        }
    }

    #[test]
    fn a_place_that_is_used_again_remembers_nothing() {
        let mut connections = Connections::default();
        connections.open(ClientId(1)).last_write = mark(1);
        connections.close(ClientId(1));
        connections.close(ClientId(1));
        assert_eq!(connections.open(ClientId(2)).last_write, None);
        assert!(connections.get(ClientId(1)).is_none());
        assert_eq!(connections.all.len(), 1);
    }
}
