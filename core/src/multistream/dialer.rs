use super::{Error, HEADER, MAX_PROPOSALS, NA, line};
use crate::ProtocolId;

/// The side that proposes.
///
/// Its header and its first proposal go out together, so that an agreement takes one round trip.
#[derive(Debug)]
pub struct Dialer {
    reader: line::Reader,
    proposals: std::vec::IntoIter<ProtocolId>,
    state: State,
    transmit: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header { proposed: ProtocolId },
    Answer { proposed: ProtocolId },
    Agreed(ProtocolId),
    Failed(Error),
}

impl Dialer {
    /// Proposes `protocols` in this order.
    ///
    /// # Errors
    ///
    /// When there is none, or more than [`MAX_PROPOSALS`].
    pub fn new(protocols: Vec<ProtocolId>) -> Result<Dialer, Error> {
        if protocols.len() > MAX_PROPOSALS {
            return Err(Error::TooManyProposals { count: protocols.len() });
        }
        let mut proposals = protocols.into_iter();
        let proposed = proposals.next().ok_or(Error::NoProposals)?;
        let mut transmit = Vec::new();
        line::write(HEADER, &mut transmit);
        line::write(proposed.as_str(), &mut transmit);
        Ok(Dialer { reader: line::Reader::new(), proposals, state: State::Header { proposed }, transmit })
    }

    /// Takes bytes from the listener and says how many it took: all, or up to the end of the agreement. What is left
    /// belongs to the protocol agreed on.
    ///
    /// # Errors
    ///
    /// When the listener refused everything, or broke the protocol. Every later call returns the same.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<usize, Error> {
        let mut rest = input;
        if let Err(error) = self.advance(&mut rest) {
            self.transmit.clear();
            self.state = State::Failed(error.clone());
            return Err(error);
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// Takes the end of the listener's stream.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], unless there is an agreement; what went wrong before, if something did.
    pub fn handle_end(&mut self) -> Result<(), Error> {
        match &self.state {
            State::Agreed(_) => Ok(()),
            State::Failed(error) => Err(error.clone()),
            State::Header { .. } | State::Answer { .. } => {
                self.transmit.clear();
                self.state = State::Failed(Error::Ended);
                Err(Error::Ended)
            }
        }
    }

    /// The bytes to send now, all of them together; `None` until there are more.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.transmit.is_empty()).then(|| std::mem::take(&mut self.transmit))
    }

    /// The protocol agreed on.
    pub fn outcome(&self) -> Option<&ProtocolId> {
        match &self.state {
            State::Agreed(protocol) => Some(protocol),
            _ => None,
        }
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<(), Error> {
        loop {
            match &self.state {
                State::Agreed(_) => return Ok(()),
                State::Failed(error) => return Err(error.clone()),
                State::Header { proposed } => {
                    let Some(line) = self.reader.next(input)? else {
                        return Ok(());
                    };
                    if line != HEADER {
                        return Err(Error::NoHeader);
                    }
                    self.state = State::Answer { proposed: proposed.clone() };
                }
                State::Answer { proposed } => {
                    let Some(line) = self.reader.next(input)? else {
                        return Ok(());
                    };
                    if proposed.as_str() == line {
                        self.state = State::Agreed(proposed.clone());
                    } else if line == NA {
                        let proposed = self.proposals.next().ok_or(Error::NoneSupported)?;
                        line::write(proposed.as_str(), &mut self.transmit);
                        self.state = State::Answer { proposed };
                    } else {
                        return Err(Error::UnexpectedAnswer);
                    }
                }
            }
        }
    }
}
