//! CLIENT LIST, line by line. Pure.

/// One client of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLine {
    /// Its number.
    pub id: u64,
    /// Where it connects from.
    pub addr: String,
    /// Its name; empty without one.
    pub name: String,
    /// Its user.
    pub user: String,
    /// Its last command, with a subcommand behind `|`.
    pub cmd: String,
    /// As CLIENT LIST writes them: `S` a replica, `M` a primary, `N` nothing special…
    pub flags: String,
    /// The database it has selected.
    pub db: u32,
    /// Seconds since it connected.
    pub age_s: u64,
    /// Seconds since its last command.
    pub idle_s: u64,
}

impl ClientLine {
    /// Reads the whole list. What a line lacks stays empty: versions add fields.
    pub fn parse_list(text: &str) -> Vec<ClientLine> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(ClientLine::parse)
            .collect()
    }

    fn parse(line: &str) -> ClientLine {
        let mut client = ClientLine::default();
        for (field, value) in line.split(' ').filter_map(|part| part.split_once('=')) {
            match field {
                "id" => client.id = value.parse().unwrap_or(0),
                "addr" => client.addr = value.to_owned(),
                "name" => client.name = value.to_owned(),
                "user" => client.user = value.to_owned(),
                "cmd" => client.cmd = value.to_owned(),
                "flags" => client.flags = value.to_owned(),
                "db" => client.db = value.parse().unwrap_or(0),
                "age" => client.age_s = value.parse().unwrap_or(0),
                "idle" => client.idle_s = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        client
    }

    /// True for a connection of replication, in either direction.
    pub fn is_replication(&self) -> bool {
        self.flags.contains(['S', 'M'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_version_are_read() {
        let list = ClientLine::parse_list(
            "id=7 addr=127.0.0.1:52555 laddr=127.0.0.1:6379 fd=8 name=understudy:a age=3 idle=1 flags=N db=2 sub=0 cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver=\n\
             id=8 addr=10.0.0.3:1 name= age=855 idle=0 flags=S db=0 cmd=psync\n",
        );
        assert_eq!(list.len(), 2);
        assert_eq!(
            (list[0].id, list[0].name.as_str(), list[0].db),
            (7, "understudy:a", 2)
        );
        assert_eq!(
            (list[0].cmd.as_str(), list[0].user.as_str()),
            ("client|list", "default")
        );
        assert!(list[1].is_replication() && !list[0].is_replication());
        assert_eq!(list[1].age_s, 855);
    }
}
