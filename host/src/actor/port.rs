use std::{any::Any, fmt, marker::PhantomData, sync::Arc, time::Duration};

use peerage_core::{Engine, PeerId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::timeout,
};

use crate::reply::Reply;

/// Pieces of mail that may wait at one actor before senders have to.
pub(crate) const MAILBOX: usize = 256;
/// How long senders wait for room, and for an actor that is between two lives. Longer than the longest wait before a
/// restart.
pub(crate) const ABSENCE: Duration = Duration::from_secs(6);

/// The way to an actor. Cheap to clone; it stays valid while the actor is restarted, in place or anew.
pub struct Port<E: Engine> {
    route: Route,
    engine: PhantomData<fn(E) -> E>,
}

/// What a [`Port`] is without the type of its mail: compiled once, and not for every engine.
#[derive(Clone)]
pub(super) struct Route(Arc<Inner>);

struct Inner {
    path: String,
    credits: Arc<Semaphore>,
    actor: watch::Sender<Slot>,
}

enum Slot {
    /// Not started yet, or between two lives.
    Absent,
    Present(Deliver, Life),
    /// Switched off, or the node has ended.
    Over,
}

/// Which life of the actor the slot belongs to. One that was given up while it hung may end after the next has begun.
pub(super) type Life = u64;

/// Puts a letter into the mailbox of one incarnation.
pub(super) type Deliver = Arc<dyn Fn(Letter) + Send + Sync>;

pub(super) enum Mail<E: Engine> {
    Command(E::Command),
    Input(E::Input),
}

/// A piece of mail with the credit that it holds until it was handled.
pub(super) struct Letter {
    /// A [`Mail`] of the engine that the port is of.
    pub(super) mail: Box<dyn Any + Send>,
    /// Whom a panic over it is charged to.
    pub(super) from: Option<PeerId>,
    pub(super) credit: Option<OwnedSemaphorePermit>,
}

/// The actor is not there: it panicked over the question, is switched off, or its node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor is not running")]
pub struct Gone;

impl<E: Engine> Port<E> {
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self { route: Route::new(path.into()), engine: PhantomData }
    }

    /// The actor's path in the tree.
    pub fn path(&self) -> &str {
        self.route.path()
    }

    /// Sends a command; waits while too much mail is waiting there, and while the actor is being started again.
    ///
    /// # Errors
    /// [`Gone`], after 6 s at the latest.
    pub fn tell(&self, command: E::Command) -> impl Future<Output = Result<(), Gone>> + Send + use<'_, E> {
        self.route.send(None, pack::<E>(Mail::Command(command)))
    }

    /// Brings what the network brought. `from` is whom a panic that it provokes is charged to. Waits as
    /// [`Port::tell`] does, which is what slows a flooding peer down.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn input(
        &self,
        from: Option<PeerId>,
        input: E::Input,
    ) -> impl Future<Output = Result<(), Gone>> + Send + use<'_, E> {
        self.route.send(from, pack::<E>(Mail::Input(input)))
    }

    /// Sends a command that carries a way to answer, and waits for the answer.
    ///
    /// # Errors
    /// [`Gone`], also when the actor panicked over it.
    pub async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Reply<T>) -> E::Command,
    ) -> Result<T, Gone> {
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::new(move |answer| {
            let _ = sender.send(answer);
        });
        self.tell(command(reply)).await?;
        receiver.await.map_err(|_| Gone)
    }

    /// Waits until nobody will be there any more: the actor is switched off, or its node has ended.
    pub async fn closed(&self) {
        self.route.closed().await;
    }

    /// Sends without waiting, for effects: an actor that waited inside an action could deadlock with the one it waits
    /// for. What bounds it: a post answers one piece of mail that had credit, or tells of one connection, listener or
    /// task, and those are limited. It takes a credit where there is one, so posts slow the callers of
    /// [`Port::tell`] down, too. Lost if the actor is gone.
    pub fn post(&self, command: E::Command) {
        self.route.post(None, pack::<E>(Mail::Command(command)));
    }

    /// As [`Port::post`], for a command that a peer has caused: a panic over it is charged to that peer.
    pub fn post_for(&self, peer: PeerId, command: E::Command) {
        self.route.post(Some(peer), pack::<E>(Mail::Command(command)));
    }

    /// As [`Port::post`], for what the network brought.
    pub fn post_input(&self, from: Option<PeerId>, input: E::Input) {
        self.route.post(from, pack::<E>(Mail::Input(input)));
    }

    /// Nobody will be there any more.
    pub(crate) fn close(&self) {
        self.route.close();
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }
}

fn pack<E: Engine>(mail: Mail<E>) -> Box<dyn Any + Send> {
    Box::new(mail)
}

impl Route {
    fn new(path: String) -> Self {
        Self(Arc::new(Inner {
            path,
            credits: Arc::new(Semaphore::new(MAILBOX)),
            actor: watch::Sender::new(Slot::Absent),
        }))
    }

    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    fn post(&self, from: Option<PeerId>, mail: Box<dyn Any + Send>) {
        if let Slot::Present(deliver, _) = &*self.0.actor.borrow() {
            let credit = self.0.credits.clone().try_acquire_owned().ok();
            deliver(Letter { mail, from, credit });
        }
    }

    /// One bound for both waits: for credit, and for an actor.
    async fn send(&self, from: Option<PeerId>, mail: Box<dyn Any + Send>) -> Result<(), Gone> {
        // Mostly there is room, and nothing to wait for. Who waits for room is not overtaken: credits that come back go to
        // them first.
        if let Slot::Present(deliver, _) = &*self.0.actor.borrow()
            && let Ok(credit) = self.0.credits.clone().try_acquire_owned()
        {
            deliver(Letter { mail, from, credit: Some(credit) });
            return Ok(());
        }
        // In a box, since the future of every question has this one in it.
        let (deliver, credit) = Box::pin(self.ready()).await?;
        deliver(Letter { mail, from, credit: Some(credit) });
        Ok(())
    }

    async fn ready(&self) -> Result<(Deliver, OwnedSemaphorePermit), Gone> {
        let ready = async {
            let deliver = self.actor().await?;
            let credit = self.0.credits.clone().acquire_owned().await.map_err(|_| Gone)?;
            Ok((deliver, credit))
        };
        timeout(ABSENCE, ready).await.unwrap_or(Err(Gone))
    }

    async fn actor(&self) -> Result<Deliver, Gone> {
        if let Slot::Present(deliver, _) = &*self.0.actor.borrow() {
            return Ok(deliver.clone());
        }
        let mut slot = self.0.actor.subscribe();
        let there = slot.wait_for(|slot| !matches!(slot, Slot::Absent)).await.map_err(|_| Gone)?;
        match &*there {
            Slot::Present(deliver, _) => Ok(deliver.clone()),
            Slot::Absent | Slot::Over => Err(Gone),
        }
    }

    async fn closed(&self) {
        let mut slot = self.0.actor.subscribe();
        // The sender lives in this route.
        let _ = slot.wait_for(|slot| matches!(slot, Slot::Over)).await;
    }

    pub(super) fn connect(&self, life: Life, deliver: Deliver) {
        self.0.actor.send_replace(Slot::Present(deliver, life));
    }

    /// A life is over; another one may come.
    pub(super) fn disconnect(&self, life: Life) {
        self.replace(Slot::Absent, |slot| matches!(slot, Slot::Present(_, present) if *present == life));
    }

    pub(super) fn close(&self) {
        self.replace(Slot::Over, |_| true);
    }

    fn replace(&self, new: Slot, fits: impl FnOnce(&Slot) -> bool) {
        let mut old = None;
        self.0.actor.send_if_modified(|slot| {
            let fits = fits(slot);
            if fits {
                old = Some(std::mem::replace(slot, new));
            }
            fits
        });
        // Dropped outside the lock: it may hold the last handle of a mailbox full of letters.
        drop(old);
    }

    pub(super) fn credits(&self) -> &Arc<Semaphore> {
        &self.0.credits
    }
}

impl<E: Engine> Clone for Port<E> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), engine: PhantomData }
    }
}

impl<E: Engine> fmt::Debug for Port<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.path()).finish()
    }
}
