//! What others have computed: of the primitives, and of whole handshakes with the frames that follow.

use data_encoding::HEXLOWER;
use snow::{
    Builder, Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver as _,
    types::{Cipher, Dh, Hash},
};

use crate::{
    Fault, Role,
    noise::{
        self, Initiator, Responder, TAG,
        buffer::Buffer,
        handshake::split,
        record::{Opened, Opener, Sealer},
        resolver::Resolver,
        tests::{ALICE, BOB, config},
    },
};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn dh(secret: &[u8]) -> Box<dyn Dh> {
    let mut dh = Resolver::default().resolve_dh(&DHChoice::Curve25519).unwrap();
    dh.set(secret);
    dh
}

fn agree(secret: &[u8], public: &[u8]) -> Result<Vec<u8>, Error> {
    // As much room as snow gives.
    let mut shared = vec![0; 56];
    dh(secret).dh(public, &mut shared)?;
    assert!(shared.split_off(32).iter().all(|byte| *byte == 0));
    Ok(shared)
}

/// RFC 7748, sections 5.2 and 6.1.
#[test]
fn x25519() {
    for (secret, public, shared) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            // With the highest bit of the point set, which does not count.
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        assert_eq!(HEXLOWER.encode(&agree(&hex(secret), &hex(public)).unwrap()), shared);
    }
    let (alice, bob) = (
        hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"),
        hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"),
    );
    assert_eq!(
        HEXLOWER.encode(dh(&bob).pubkey()),
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    );
    for (own, other) in [(&alice, &bob), (&bob, &alice)] {
        assert_eq!(
            HEXLOWER.encode(&agree(own, dh(other).pubkey()).unwrap()),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        );
    }
}

/// The points of small order, as canonical and not canonical encodings, with and without the highest bit.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn low_order() -> impl Iterator<Item = Vec<u8>> {
    LOW_ORDER.iter().flat_map(|point| {
        let point = hex(point);
        let mut high = point.clone();
        high[31] |= 0x80;
        [point, high]
    })
}

#[test]
fn points_of_low_order_are_refused() {
    for point in low_order() {
        assert_eq!(agree(&[7; 32], &point), Err(Error::Dh), "{}", HEXLOWER.encode(&point));
        // As the first message's key, it shows when the responder is to use it.
        let error = Responder::start(&config(BOB)).unwrap().read(&point).unwrap_err();
        assert!(matches!(error, noise::Error::Malformed(_)), "{error:?}");
        assert_eq!(error.fault(), Fault::Remote);
        // As the second one's.
        let (initiator, _) = Initiator::start(&config(ALICE)).unwrap();
        let message = [point, vec![0; 200]].concat();
        assert!(matches!(initiator.read(&message), Err(noise::Error::Malformed(_))));
    }
}

#[test]
fn keys_of_a_wrong_length_do_nothing() {
    for len in [0, 31, 33, 64] {
        assert_eq!(agree(&vec![7; len], &[9; 32]), Err(Error::Dh));
    }
    assert_eq!(agree(&[7; 32], &[9; 31]), Err(Error::Dh));
}

#[test]
fn generated_keys_differ_and_fit() {
    let mut rng = Resolver::default().resolve_rng().unwrap();
    let mut pairs = [dh(&[]), dh(&[])];
    for pair in &mut pairs {
        pair.generate(&mut *rng).unwrap();
        assert_eq!(dh(pair.privkey()).pubkey(), pair.pubkey());
    }
    assert_ne!(pairs[0].pubkey(), pairs[1].pubkey());
}

#[test]
fn nothing_else_can_be_asked_for() {
    assert!(Resolver::default().resolve_dh(&DHChoice::Curve448).is_none());
    assert!(Resolver::default().resolve_hash(&HashChoice::SHA512).is_none());
    assert!(Resolver::default().resolve_hash(&HashChoice::Blake2s).is_none());
    assert!(Resolver::default().resolve_cipher(&CipherChoice::AESGCM).is_none());
}

/// RFC 8439, appendix A.5: its nonce begins with four zeroes, as those of Noise do.
#[test]
fn chacha20_poly1305() {
    let mut cipher: Box<dyn Cipher> = Resolver::default().resolve_cipher(&CipherChoice::ChaChaPoly).unwrap();
    let (mut sealed, mut opened) = ([0; 300], [0; 300]);
    assert_eq!(cipher.encrypt(0, &[], b"no key", &mut sealed), 0);
    assert_eq!(cipher.decrypt(0, &[], &[0; 32], &mut opened), Err(Error::Decrypt));

    let key = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    cipher.set(&key.try_into().unwrap());
    let nonce = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    let aad = hex("f33388860000000000004e91");
    let text = "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, \
                replaced, or obsoleted by other documents at any time. It is inappropriate to use \
                Internet-Drafts as reference material or to cite them other than as /\u{201c}work in \
                progress./\u{201d}";
    let len = cipher.encrypt(nonce, &aad, text.as_bytes(), &mut sealed);
    assert_eq!(len, 265 + TAG);
    assert_eq!(HEXLOWER.encode(&sealed[..16]), "64a0861575861af460f062c79be643bd");
    assert_eq!(HEXLOWER.encode(&sealed[265..len]), "eead9d67890cbb22392336fea1851f38");
    assert_eq!(cipher.decrypt(nonce, &aad, &sealed[..len], &mut opened), Ok(265));
    assert_eq!(&opened[..265], text.as_bytes());

    assert_eq!(cipher.decrypt(nonce + 1, &aad, &sealed[..len], &mut opened), Err(Error::Decrypt));
    assert_eq!(cipher.decrypt(nonce, &[], &sealed[..len], &mut opened), Err(Error::Decrypt));
    assert_eq!(cipher.decrypt(nonce, &aad, &sealed[..len - 1], &mut opened), Err(Error::Decrypt));
    assert_eq!(cipher.decrypt(nonce, &aad, &sealed[..len], &mut opened[..264]), Err(Error::Decrypt));
    assert_eq!(cipher.encrypt(nonce, &aad, text.as_bytes(), &mut [0; 280]), 0, "without room for the tag");
}

/// FIPS 180-4's example, and RFC 4231's second of HMAC.
#[test]
fn sha256() {
    let mut hash: Box<dyn Hash> = Resolver::default().resolve_hash(&HashChoice::SHA256).unwrap();
    let mut out = [0; 64];
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for _ in 0..2 {
        hash.input(b"left over");
        hash.reset();
        hash.input(b"a");
        hash.input(b"bc");
        hash.result(&mut out);
        assert_eq!(HEXLOWER.encode(&out[..32]), abc);
    }
    hash.hmac(b"Jefe", b"what do ya want for nothing?", &mut out);
    let hmac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(HEXLOWER.encode(&out[..32]), hmac);
}

/// A conversation with all keys given. The initiator writes first, and then they take turns.
struct Vector {
    prologue: &'static str,
    statics: [&'static str; 2],
    ephemerals: [&'static str; 2],
    /// Payload and what is sent.
    messages: &'static [(&'static str, &'static str)],
}

/// Those of cacophony and of snow for `Noise_XX_25519_ChaChaPoly_SHA256`.
#[rustfmt::skip]
const CONVERSATIONS: [Vector; 2] = [
    Vector {
        prologue: "4a6f686e2047616c74",
        statics: ["e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1", "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"],
        ephemerals: ["893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a", "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"],
        messages: &[
            ("4c756477696720766f6e204d69736573", "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573"),
            ("4d757272617920526f746862617264", "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285e08d6b68aaa3629a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23dbd8d162c9326ad"),
            ("462e20412e20486179656b", "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f58c9fea0d4ec82a286427402f113e4b6ae769a1d95941d49b25030"),
            ("4361726c204d656e676572", "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df"),
            ("4a65616e2d426170746973746520536179", "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5"),
            ("457567656e2042f6686d20766f6e2042617765726b", "eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f"),
        ],
    },
    Vector {
        prologue: "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e6420626f72696e672e",
        statics: ["7dec208517a3b81a2861d7a71266d5d6dc944c5a8816634a86fe63198a0148ee", "4d0aed5098e3b4ef20357e9f686ce66204c792b358da2e475017d6c485304881"],
        ephemerals: ["a32daf21e93c0131495ce1d903181fde81cc46937daaeb990bae7c992709421e", "4eece0f195d026db035ff987597c429d3ad3bcc2944df37d649528951b2a27c5"],
        messages: &[
            ("d03c489139e645d0711a3c9e810d776b46a84912463fafa87b884eebf242dc34", "f9fa868ba97ab8a2686deccfaad5a484ee10a5bb85e3d1dce015a84797f92818d03c489139e645d0711a3c9e810d776b46a84912463fafa87b884eebf242dc34"),
            ("d8190a92f7dc0c93dbea9118ba8055751fb7c6590c416ffbd419964132b99a85", "8c4e6fdb7d09d501a86f7eca5c234522751706ed409182c05cdf5f827d4dae47b81c6c5f43b025692c24391eefee725c17d8cb0fbe3e4abb8aedf42c4fd2592d4ea48ac08989d6ae8b4adae08b2c34087c808c7aa55a63c02b0fab9e930612336bd43eaea04d3c670a0a146691aa9cc9d357872320dc735dbc48580cffb553db"),
            ("77891b19dcb92ef7c055b672c4a5aa7fdf1c84146b8b303459022729473ce254", "933ca6b5ed60df3df66121f0ab49a09e49efa45c613a86a3cecbf4c535cef2f83f72b42837b18e3572f2fdc2b74c331e2368a545cef54bdca081678ab0e9dd5348122459e0c034c851984d88ce610963d43cde6cfe73a67fbd5a63e8bfca96d0"),
            ("d7efdf988072881941db045a42882433817555128fbf5663e56081712ec7d212", "54ef0ff0629e1aaa7685a2806ab111cba76b52331f2642276736f415868eacb69ab2577f3bda0cbf72f879685f6ed25f"),
            ("dd7bf01a588bafb52c6cfba952e5d8fe35cc2b3f92b4730ae2474615157345ce", "356be70f110306d5c699bb834bb9d58d909e325924dfbec972e406e6f294dc63e1daebefe8a62a334facc8048ab4ad66"),
        ],
    },
];

#[test]
fn whole_conversations() {
    for vector in CONVERSATIONS {
        let prologue = hex(vector.prologue);
        let [mut initiator, mut responder] = [Role::Initiator, Role::Responder].map(|role| {
            let of = usize::from(role == Role::Responder);
            let (own, ephemeral) = (hex(vector.statics[of]), hex(vector.ephemerals[of]));
            let builder = Builder::with_resolver(
                super::super::handshake::NAME.parse().unwrap(),
                Box::new(Resolver::default()),
            )
            .local_private_key(&own)
            .and_then(|builder| builder.prologue(&prologue))
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(&ephemeral);
            match role {
                Role::Initiator => builder.build_initiator().unwrap(),
                Role::Responder => builder.build_responder().unwrap(),
            }
        });
        let (handshake, frames) = vector.messages.split_at(3);
        let mut buf = [0; 1000];
        for (turn, (payload, sent)) in handshake.iter().enumerate() {
            let (from, to) =
                if turn == 1 { (&mut responder, &mut initiator) } else { (&mut initiator, &mut responder) };
            let n = from.write_message(&hex(payload), &mut buf).unwrap();
            assert_eq!(HEXLOWER.encode(&buf[..n]), *sent);
            let n = to.read_message(&hex(sent), &mut buf).unwrap();
            assert_eq!(HEXLOWER.encode(&buf[..n]), *payload);
        }
        let [one, two] = [(initiator, Role::Initiator), (responder, Role::Responder)]
            .map(|(noise, role)| split(noise, role).unwrap());
        let mut sides =
            [one, two].map(|keys| (Sealer::new(keys.ours), Opener::new(keys.theirs, Buffer::default())));
        for (turn, (payload, sent)) in frames.iter().enumerate() {
            // The fourth message is the responder's.
            let (from, to) = if turn % 2 == 0 { (1, 0) } else { (0, 1) };
            let payload = hex(payload);
            assert_eq!(sides[from].0.push(&payload).unwrap(), payload.len());
            sides[from].0.seal().unwrap();
            let frame = sides[from].0.sealed().to_vec();
            sides[from].0.sent(frame.len());
            assert_eq!(HEXLOWER.encode(&frame[2..]), *sent);
            let opener = &mut sides[to].1;
            opener.buffer().push(&frame);
            assert_eq!(opener.open().unwrap(), Opened::Plain);
            assert_eq!(opener.plain(), payload);
            opener.consume(payload.len());
        }
    }
}
