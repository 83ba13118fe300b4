// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Kernel configurations as text.
//!
//! `make olddefconfig` drops what does not fit without a word, so what was asked for is compared
//! with what came out: a debug kernel that lost one of its checks would find nothing for ever.

use std::collections::BTreeMap;

/// Options and the values that are asked for; none stands for an option that is off.
pub(super) struct Wanted<'a>(BTreeMap<&'a str, Option<&'a str>>);

/// An option that has another value than was asked for.
pub(super) struct Refused {
    name: String,
    wanted: Option<String>,
}

impl<'a> Wanted<'a> {
    /// Reads lines as in a `.config`; a later line takes an earlier one's place.
    pub(super) fn parse(text: &'a str) -> Wanted<'a> {
        Wanted(text.lines().filter_map(option).collect())
    }

    #[cfg(test)]
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).copied().flatten()
    }

    /// The options that a finished configuration has otherwise.
    pub(super) fn refused_by(&self, config: &str) -> Vec<Refused> {
        let config = Wanted::parse(config);
        let have = |name: &str| config.0.get(name).copied().flatten();
        let wrong = self.0.iter().filter(|(name, value)| have(name) != **value);
        wrong
            .map(|(name, value)| Refused {
                name: (*name).to_string(),
                wanted: value.map(str::to_string),
            })
            .collect()
    }
}

/// Name and value of one line, if it is about an option.
fn option(line: &str) -> Option<(&str, Option<&str>)> {
    let line = line.trim();
    let off = line.strip_prefix("# ");
    if let Some(name) = off.and_then(|rest| rest.strip_suffix(" is not set")) {
        return name.starts_with("CONFIG_").then_some((name, None));
    }
    let (name, value) = line.split_once('=')?;
    let value = (value != "n").then_some(value);
    name.starts_with("CONFIG_").then_some((name, value))
}

/// The refused options as a list for a message.
pub(super) fn shown(refused: &[Refused]) -> String {
    let lines = refused.iter().map(|one| match &one.wanted {
        Some(value) => format!("{}={value}", one.name),
        None => format!("{} off", one.name),
    });
    lines.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_dropped_or_changed_are_named() {
        let wanted = "# A comment.\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=n\n\
                      # CONFIG_E is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_E=y\n";
        let refused = Wanted::parse(wanted).refused_by(config);
        assert_eq!(shown(&refused), "CONFIG_B=m, CONFIG_E off");
    }

    #[test]
    fn a_later_fragment_takes_an_earlier_ones_place() {
        let wanted = Wanted::parse("CONFIG_A=y\n# CONFIG_A is not set\nCONFIG_B=n\nCONFIG_B=40\n");
        assert_eq!(wanted.value("CONFIG_A"), None);
        assert_eq!(wanted.value("CONFIG_B"), Some("40"));
        assert!(wanted.refused_by("CONFIG_B=40\n").is_empty());
    }
}
