use super::{Error, HEADER, LS, MAX_MESSAGE_LEN, NA, line};
use crate::{ProtocolId, frame};

/// The side that chooses.
///
/// It answers the dialer's header and what came with it together. It does not speak first: on a stream that nobody
/// has written to yet that would cost a packet of its own.
#[derive(Debug)]
pub struct Listener {
    reader: line::Reader,
    state: State,
    /// The answer to `ls`, when it is answered.
    list: Option<Vec<u8>>,
    transmit: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Header,
    Proposal,
    Agreed(ProtocolId),
    Failed(Error),
}

impl Listener {
    /// Waits for a dialer. To `ls` it answers `na`.
    pub fn new() -> Listener {
        Listener { reader: line::Reader::new(), state: State::Header, list: None, transmit: Vec::new() }
    }

    /// Waits for a dialer and answers `ls` with `protocols`; with `na`, as the spec allows, when they do not fit one
    /// message of [`MAX_MESSAGE_LEN`] bytes.
    pub fn listing<'a>(protocols: impl IntoIterator<Item = &'a ProtocolId>) -> Listener {
        // A message whose content is a message for each protocol, and one line feed more.
        let mut content = Vec::new();
        for protocol in protocols {
            line::write(protocol.as_str(), &mut content);
            if content.len() >= MAX_MESSAGE_LEN {
                return Listener::new();
            }
        }
        content.push(b'\n');
        let mut list = Vec::new();
        frame::encode(&content, &mut list);
        Listener { list: Some(list), ..Listener::new() }
    }

    /// Takes bytes from the dialer and says how many it took: all, or up to the end of the proposal that `choose` took.
    /// What is left belongs to the protocol agreed on.
    ///
    /// `choose` is asked for every proposal and returns the protocol to go on with, by custom of the same name; `None`
    /// refuses it.
    ///
    /// # Errors
    ///
    /// When the dialer broke the protocol, or asked too often. Every later call returns the same.
    pub fn handle_input(
        &mut self,
        input: &[u8],
        choose: impl FnMut(&str) -> Option<ProtocolId>,
    ) -> Result<usize, Error> {
        let mut rest = input;
        if let Err(error) = self.advance(&mut rest, choose) {
            self.transmit.clear();
            self.state = State::Failed(error.clone());
            return Err(error);
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// Takes the end of the dialer's stream.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`], unless there is an agreement; what went wrong before, if something did.
    pub fn handle_end(&mut self) -> Result<(), Error> {
        match &self.state {
            State::Agreed(_) => Ok(()),
            State::Failed(error) => Err(error.clone()),
            State::Header | State::Proposal => {
                self.transmit.clear();
                self.state = State::Failed(Error::Ended);
                Err(Error::Ended)
            }
        }
    }

    /// The bytes to send now, all of them together; `None` until there are more. The echo of an agreement is among
    /// them: it has to go out before anything of the protocol agreed on.
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

    fn advance(
        &mut self,
        input: &mut &[u8],
        mut choose: impl FnMut(&str) -> Option<ProtocolId>,
    ) -> Result<(), Error> {
        loop {
            match &self.state {
                State::Agreed(_) => return Ok(()),
                State::Failed(error) => return Err(error.clone()),
                State::Header => {
                    let Some(line) = self.reader.next(input)? else {
                        return Ok(());
                    };
                    if line != HEADER {
                        return Err(Error::NoHeader);
                    }
                    line::write(HEADER, &mut self.transmit);
                    self.state = State::Proposal;
                }
                State::Proposal => {
                    let Some(line) = self.reader.next(input)? else {
                        return Ok(());
                    };
                    if line == LS {
                        match &self.list {
                            Some(list) => self.transmit.extend_from_slice(list),
                            None => line::write(NA, &mut self.transmit),
                        }
                    } else if let Some(protocol) = choose(&line) {
                        line::write(&line, &mut self.transmit);
                        self.state = State::Agreed(protocol);
                    } else {
                        line::write(NA, &mut self.transmit);
                    }
                }
            }
        }
    }
}

impl Default for Listener {
    fn default() -> Listener {
        Listener::new()
    }
}
