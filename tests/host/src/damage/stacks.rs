// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Stacks: a bad layer among good ones, wrappers in wrappers, sizes that contradict each other.

use super::{Case, Sink};
use crate::images::{good, inner, pack};
use crate::lsmt::{Record, Spec};
use crate::zfile::Spec as Packed;
use crate::{put_u32, tar};

fn layer(virtual_size: u64, value: u8, records: &[Record]) -> Vec<u8> {
    Spec::new(virtual_size, vec![value; 1024], records).build()
}

/// Every kind of stack.
pub(super) fn all(sink: Sink<'_>) {
    let mut tell = |name: String, files: Vec<Vec<u8>>| {
        sink(&|| Case {
            name: name.clone(),
            files: files.clone(),
        });
    };
    let bottom = layer(
        64 * 512,
        1,
        &[Record::data(0, 2, 8), Record::data(40, 2, 8)],
    );
    let top = layer(
        48 * 512,
        3,
        &[Record::data(1, 1, 8), Record::zero(30, 2, 8)],
    );
    for image in good() {
        let mut deeds: Vec<(&str, Vec<u8>)> = vec![("good", image.file.clone())];
        let mut bad = image.file.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0x40;
        deeds.push(("a bit in the middle", bad));
        deeds.push(("cut", image.file[..middle].to_vec()));
        let mut bad = image.file.clone();
        let last = bad.len() - 4000.min(bad.len());
        bad[last] ^= 0x40;
        deeds.push(("a bit near the end", bad));
        deeds.push(("empty", Vec::new()));
        for (deed, file) in deeds {
            for place in 0..3 {
                let mut files = vec![bottom.clone(), top.clone()];
                files.insert(place, file.clone());
                tell(format!("{} {deed}, at {place} of 3", image.name), files);
            }
            let twice = vec![file.clone(), bottom.clone(), file];
            tell(format!("{} {deed}, below and on top", image.name), twice);
        }
    }
    // A layer over itself, up to the limit of the format.
    for count in [2, 7, 64, 65, 128, 254, 255] {
        tell(format!("{count} times the same"), vec![top.clone(); count]);
    }
    let stairs = |i: u64| layer(64 * 512, i as u8, &[Record::data(i % 60, 2, 8)]);
    tell("255 layers".into(), (0..255).map(stairs).collect());

    let plain = inner().build();
    let packed = pack("lz4 overwritten", &plain).build();
    let nested = |algo, bytes: &[u8]| Packed::of(bytes, algo, 4096).build();
    for (name, file) in [
        ("zfile in zfile", nested(1, &packed)),
        ("zfile in zfile of zstd", nested(2, &packed)),
        ("zfile in zfile three times", nested(2, &nested(1, &packed))),
        ("tar in zfile", nested(1, &tar::wrap_pax(&plain))),
        ("tar in tar", tar::wrap_pax(&tar::wrap_ustar(&plain))),
        (
            "tar in tar the other way",
            tar::wrap_ustar(&tar::wrap_pax(&packed)),
        ),
        ("tar of nothing", tar::wrap_pax(&[])),
        ("zfile of nothing", Packed::of(&[], 1, 4096).build()),
        ("zfile of a byte", Packed::of(&[7], 2, 512).build()),
    ] {
        tell(name.into(), vec![file.clone()]);
        tell(format!("{name}, over a layer"), vec![bottom.clone(), file]);
    }

    let sizes = [
        0,
        1,
        511,
        512,
        513,
        1024,
        20_480,
        32_767,
        1 << 41,
        (1 << 59) - 1,
        1 << 59,
    ];
    for below in sizes {
        for above in sizes {
            let records = [
                Record::data(0, 2, 8),
                Record::zero(5, 3, 8),
                Record::data(39, 2, 8),
            ];
            let files = vec![layer(below, 1, &records), layer(above, 2, &records[..1])];
            tell(format!("sizes {below} and {above}"), files);
        }
    }
    // What does not belong together: headers of other kinds of files.
    for flags in 0..32 {
        let mut bytes = plain.clone();
        put_u32(&mut bytes, 28, flags);
        tell(format!("header flags {flags:#x}"), vec![bytes.clone()]);
        let trailer = bytes.len() - 4096;
        put_u32(&mut bytes, 28, 7);
        put_u32(&mut bytes, trailer + 28, flags);
        tell(format!("trailer flags {flags:#x}"), vec![bytes]);
    }
}
