//! `--add-host NAME:ADDRESS` and `--dns ADDRESS`.

use std::net::IpAddr;

/// Reads a line for /etc/hosts; the result is `name:address`. The address `host-gateway` stands for the host.
pub fn extra(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if plain != "host-gateway" && plain.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{name}:{plain}"))
}

/// Reads the address of a name server.
pub fn server(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        assert_eq!(extra("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra("a=::1"), Ok("a:::1".into()));
        assert_eq!(extra("a:[::1]"), Ok("a:::1".into()));
        assert_eq!(extra("a:host-gateway"), Ok("a:host-gateway".into()));
        assert_eq!(extra("x"), Err("bad format for add-host: \"x\"".into()));
        assert_eq!(extra("x:y"), Err("invalid IP address in add-host: \"y\"".into()));
        assert_eq!(server("foo"), Err("IP address is not correctly formatted: foo".into()));
        assert_eq!(server("8.8.8.8"), Ok("8.8.8.8".into()));
    }
}
