//! One node does sums for another: a request there, a response back, both plain Rust types.
//!
//! ```text
//! cargo run --example request_response                       # does sums, and prints its address
//! cargo run --example request_response -- ADDRESS 17 + 25    # asks for one
//! ```

use peerage::{Keypair, Multiaddr, Node, request_response::RequestResponse};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Sum {
    Plus(i64, i64),
    Minus(i64, i64),
}

/// Wrong sums are answers too; an `Err` of the handler would only reset the stream.
type Answer = Result<i64, String>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sums = RequestResponse::cbor::<Sum, Answer>("/sums/1")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => {
            let serving = sums.serve(|peer, sum| async move {
                println!("{peer} asks for {sum:?}");
                Ok::<_, String>(calculate(&sum))
            });
            let (node, _) = Node::builder(Keypair::generate()).with(serving);
            let node = node.listen("/ip4/127.0.0.1/tcp/0")?.start().await?;
            println!("ask with: cargo run --example request_response -- {} 17 + 25", node.addresses()[0]);
            tokio::signal::ctrl_c().await?;
            node.shutdown().await;
        }
        [address, a, operator, b] => {
            let (a, b) = (a.parse()?, b.parse()?);
            let sum = match operator.as_str() {
                "+" => Sum::Plus(a, b),
                "-" => Sum::Minus(a, b),
                other => return Err(format!("{other} is neither + nor -").into()),
            };
            let (node, sums) = Node::builder(Keypair::generate()).with(sums);
            let node = node.start().await?;
            let peer = node.connect(address.parse::<Multiaddr>()?).await?.peer;
            match sums.request(peer, &sum).await? {
                Ok(result) => println!("{result}"),
                Err(why) => println!("it cannot be done: {why}"),
            }
            node.shutdown().await;
        }
        _ => return Err("give no arguments, or ADDRESS A + B".into()),
    }
    Ok(())
}

fn calculate(sum: &Sum) -> Answer {
    match *sum {
        Sum::Plus(a, b) => a.checked_add(b),
        Sum::Minus(a, b) => a.checked_sub(b),
    }
    .ok_or_else(|| "the result is too large".to_owned())
}
