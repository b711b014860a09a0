//! An argument of a command with its placeholders, such as `{target}`. Read once, filled in for each target.

use std::fmt;

use super::name::{JobName, Target, TargetName};

/// The placeholders without a name of their own behind a dot, for messages.
pub(super) const PLACEHOLDERS: [&str; 8] = ["target", "job", "run", "wave", "attempt", "fence", "store-id", "job-dir"];

/// One argument of a command. What fills it in stays within this one argument: no shell ever reads it.
///
/// `{{` and `}}` are literal braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// A part of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As written.
    Literal(String),
    /// `{target}`: the target's name.
    Target,
    /// `{job}`: the job's name.
    Job,
    /// `{run}`: the run's id.
    Run,
    /// `{wave}`: the name of the target's wave; nothing where the job has none.
    Wave,
    /// `{attempt}`: 1 for the first try.
    Attempt,
    /// `{fence}`: the lease's fence.
    Fence,
    /// `{store-id}`: the id of the store that the fence is from.
    StoreId,
    /// `{job-dir}`: the folder that the job file is in.
    JobDir,
    /// `{label.KEY}`: the target's label of that key.
    Label(String),
}

/// What fills in the placeholders.
#[derive(Debug, Clone, Copy)]
pub struct Substitutions<'a> {
    /// The target, with its labels.
    pub target: &'a Target,
    /// The job's name.
    pub job: &'a JobName,
    /// The run's id.
    pub run: &'a str,
    /// The name of the target's wave; empty where the job has none.
    pub wave: &'a str,
    /// 1 for the first try.
    pub attempt: u32,
    /// The lease's fence.
    pub fence: u64,
    /// The id of the store; empty where the caller may not read it.
    pub store_id: &'a str,
    /// The folder that the job file is in.
    pub job_dir: &'a str,
}

/// What a target is called elsewhere, such as `{target}.example.com` for its name in a party: made of the target's name and
/// labels alone, so that it is the same for every run and attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberTemplate(Vec<MemberPiece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum MemberPiece {
    Literal(String),
    Target,
    Label(String),
}

/// Why a template cannot say what a target is called in a party.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberTemplateError {
    /// A placeholder whose value is not the target's own.
    #[error("a member's name cannot depend on `{0}`")]
    NotOfTarget(Template),
    /// No placeholder at all.
    #[error("every target would be the same member")]
    SameForAll,
}

/// A target has no label that its command names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("target `{target}` has no label `{key}`")]
pub struct MissingLabel {
    /// The target.
    pub target: TargetName,
    /// The label's key.
    pub key: String,
}

/// Why an argument cannot be read as a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` that no `}` follows.
    #[error("`{{` is not closed")]
    NotClosed,
    /// A `}` that no `{` precedes.
    #[error("`}}` closes nothing")]
    NotOpened,
    /// A placeholder that is not known.
    #[error("unknown placeholder `{{{0}}}`")]
    Unknown(String),
    /// `{label.KEY}` with a key that no label can have.
    #[error("`{0}` is no key of a label")]
    LabelKey(String),
}

impl TemplateError {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NotClosed | Self::NotOpened => String::from("for a brace itself write `{{` or `}}`"),
            Self::Unknown(name) => {
                match name.strip_prefix("label").map(|key| key.trim_start_matches([':', ' ', '_'])) {
                    Some("") => String::from("name the label's key: `{label.rack}`"),
                    Some(key) if is_label_key(key) => format!("did you mean `{{label.{key}}}`?"),
                    _ => unknown_help(name),
                }
            }
            Self::LabelKey(_) => String::from("a label's key has letters, digits, `_`, `.` and `-`"),
        }
    }
}

fn unknown_help(name: &str) -> String {
    let snake = name.replace('_', "-");
    let close = PLACEHOLDERS.iter().find(|known| strsim::damerau_levenshtein(known, &snake) <= 1 + known.len() / 5);
    match close {
        Some(known) => format!("did you mean `{{{known}}}`?"),
        None if is_label_key(name) => {
            format!("a label is `{{label.{name}}}`; a brace itself is `{{{{` or `}}}}`; these are known: {}", known())
        }
        None => format!("a brace itself is `{{{{` or `}}}}`; these are known: {}", known()),
    }
}

fn known() -> String {
    PLACEHOLDERS.iter().map(|name| format!("`{{{name}}}`, ")).chain([String::from("`{label.KEY}`")]).collect()
}

/// Whether a label can have that key. It becomes a part of an environment variable's name, and of a placeholder.
pub(super) fn is_label_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl Template {
    /// Reads an argument.
    ///
    /// # Errors
    /// [`TemplateError`]: braces that do not match, a placeholder that is not known.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..];
            if let Some(after) = brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(after) = brace.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(TemplateError::NotClosed)?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::parse(name)?);
                rest = after;
            } else {
                return Err(TemplateError::NotOpened);
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Fills it in.
    ///
    /// # Errors
    /// [`MissingLabel`], for a target whose labels were not known when the job was checked.
    pub fn render(&self, with: &Substitutions<'_>) -> Result<String, MissingLabel> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Target => text.push_str(with.target.name.as_str()),
                Piece::Job => text.push_str(with.job.as_str()),
                Piece::Run => text.push_str(with.run),
                Piece::Wave => text.push_str(with.wave),
                Piece::Attempt => text.push_str(&with.attempt.to_string()),
                Piece::Fence => text.push_str(&with.fence.to_string()),
                Piece::StoreId => text.push_str(with.store_id),
                Piece::JobDir => text.push_str(with.job_dir),
                Piece::Label(key) => text.push_str(with.target.label(key)?),
            }
        }
        Ok(text)
    }

    /// Its parts, in their order; none for an empty argument.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The keys of the labels that it names.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Label(key) => Some(key.as_str()),
            _ => None,
        })
    }
}

impl MemberTemplate {
    /// A member has the target's name.
    #[must_use]
    pub fn target() -> Self {
        Self(vec![MemberPiece::Target])
    }

    /// A template of `{target}` and `{label.KEY}`.
    ///
    /// # Errors
    /// [`MemberTemplateError`]: another placeholder, or none.
    pub fn new(template: Template) -> Result<Self, MemberTemplateError> {
        let piece = |piece| match piece {
            Piece::Literal(literal) => Ok(MemberPiece::Literal(literal)),
            Piece::Target => Ok(MemberPiece::Target),
            Piece::Label(key) => Ok(MemberPiece::Label(key)),
            other @ (Piece::Job
            | Piece::Run
            | Piece::Wave
            | Piece::Attempt
            | Piece::Fence
            | Piece::StoreId
            | Piece::JobDir) => Err(MemberTemplateError::NotOfTarget(Template { pieces: vec![other] })),
        };
        let pieces = template.pieces.into_iter().map(piece).collect::<Result<Vec<_>, _>>()?;
        let is_literal = |piece: &MemberPiece| matches!(piece, MemberPiece::Literal(_));
        match pieces.iter().all(is_literal) {
            true => Err(MemberTemplateError::SameForAll),
            false => Ok(Self(pieces)),
        }
    }

    /// The member that a target is.
    ///
    /// # Errors
    /// [`MissingLabel`], for a target whose labels were not known when the job was checked.
    pub fn member(&self, target: &Target) -> Result<String, MissingLabel> {
        self.render(target.name.as_str(), |key| target.label(key))
    }

    /// The member that a host of that name would be. `None` if that depends on labels: only a target's are known.
    #[must_use]
    pub fn member_named(&self, name: &str) -> Option<String> {
        self.render(name, |_| Err(())).ok()
    }

    /// The keys of the labels that it names.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            MemberPiece::Label(key) => Some(key.as_str()),
            MemberPiece::Literal(_) | MemberPiece::Target => None,
        })
    }

    fn render<'a, E>(&'a self, name: &'a str, label: impl Fn(&'a str) -> Result<&'a str, E>) -> Result<String, E> {
        let part = |piece: &'a MemberPiece| match piece {
            MemberPiece::Literal(literal) => Ok(literal.as_str()),
            MemberPiece::Target => Ok(name),
            MemberPiece::Label(key) => label(key),
        };
        self.0.iter().map(part).collect()
    }
}

/// As it can be written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Literal(literal) => f.write_str(&literal.replace('{', "{{").replace('}', "}}")),
            Piece::Target => f.write_str("{target}"),
            Piece::Job => f.write_str("{job}"),
            Piece::Run => f.write_str("{run}"),
            Piece::Wave => f.write_str("{wave}"),
            Piece::Attempt => f.write_str("{attempt}"),
            Piece::Fence => f.write_str("{fence}"),
            Piece::StoreId => f.write_str("{store-id}"),
            Piece::JobDir => f.write_str("{job-dir}"),
            Piece::Label(key) => write!(f, "{{label.{key}}}"),
        })
    }
}

impl Piece {
    fn parse(name: &str) -> Result<Self, TemplateError> {
        match name {
            "target" => Ok(Self::Target),
            "job" => Ok(Self::Job),
            "run" => Ok(Self::Run),
            "attempt" => Ok(Self::Attempt),
            "fence" => Ok(Self::Fence),
            "store-id" | "store_id" => Ok(Self::StoreId),
            "job-dir" | "job_dir" => Ok(Self::JobDir),
            "wave" => Ok(Self::Wave),
            _ => match name.strip_prefix("label.") {
                Some(key) if is_label_key(key) => Ok(Self::Label(key.to_owned())),
                Some(key) => Err(TemplateError::LabelKey(key.to_owned())),
                None => Err(TemplateError::Unknown(name.to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::Labels;
    use super::*;

    fn target() -> Target {
        Target {
            name: TargetName::parse("web01").unwrap(),
            labels: Labels::from([(String::from("rack"), String::from("{target}; rm -rf /"))]),
        }
    }

    fn render(text: &str) -> Result<String, MissingLabel> {
        let job = JobName::parse("reboot").unwrap();
        let (target, run, job_dir) = (target(), "r-1", "/jobs");
        Template::parse(text).unwrap().render(&Substitutions {
            target: &target,
            job: &job,
            run,
            wave: "canary",
            attempt: 2,
            fence: 77,
            store_id: "s-1",
            job_dir,
        })
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        assert_eq!(
            render("{target} {job} {run} {wave} {attempt} {fence} {store-id} {store_id} {job-dir} {job_dir}").unwrap(),
            "web01 reboot r-1 canary 2 77 s-1 s-1 /jobs /jobs"
        );
    }

    #[test]
    fn a_member_is_named_by_its_target_alone() {
        let member = |text: &str| MemberTemplate::new(Template::parse(text).unwrap());
        let of_target = |text: &str| member(text).unwrap().member(&target());
        assert_eq!(MemberTemplate::target(), member("{target}").unwrap());
        assert_eq!(of_target("{target}.example.com").unwrap(), "web01.example.com");
        assert_eq!(of_target("{{{label.rack}}}").unwrap(), "{{target}; rm -rf /}");
        assert_eq!(of_target("{label.zone}").unwrap_err().to_string(), "target `web01` has no label `zone`");
        for text in ["{target}-{attempt}", "{run}", "{job}", "{wave}", "{fence}", "{store-id}", "{job-dir}"] {
            assert!(matches!(member(text), Err(MemberTemplateError::NotOfTarget(_))), "{text}");
        }
        for text in ["", "web", "{{target}}"] {
            assert_eq!(member(text), Err(MemberTemplateError::SameForAll), "{text}");
        }
    }

    #[test]
    fn of_a_host_that_is_no_target_only_the_name_is_known() {
        let named = |text: &str| MemberTemplate::new(Template::parse(text).unwrap()).unwrap().member_named("db1");
        assert_eq!(named("{target}.example.com").as_deref(), Some("db1.example.com"));
        assert_eq!(named("{target}.{label.rack}"), None);
    }

    #[test]
    fn what_was_filled_in_is_not_read_again() {
        assert_eq!(render("<{label.rack}>").unwrap(), "<{target}; rm -rf />");
    }

    #[test]
    fn doubled_braces_are_braces() {
        for (text, meant) in
            [("{{}}", "{}"), ("{{target}}", "{target}"), ("{{{target}}}", "{web01}"), ("é{{", "é{"), ("", "")]
        {
            assert_eq!(render(text).unwrap(), meant, "{text}");
        }
    }

    #[test]
    fn a_template_is_shown_as_it_can_be_written() {
        for text in ["", "a{{b}}", "{target}{job}{run}{wave}{attempt}{fence}{store-id}{job-dir}", "<{label.rack}>"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_label_that_is_not_there_is_named() {
        let error = render("{label.zone}").unwrap_err();
        assert_eq!(error.to_string(), "target `web01` has no label `zone`");
    }

    #[test]
    fn a_template_that_cannot_be_read_says_what_to_write() {
        for (text, message, help) in [
            ("{target", "`{` is not closed", "for a brace itself write `{{` or `}}`"),
            ("a}", "`}` closes nothing", "for a brace itself write `{{` or `}}`"),
            ("{tagret}", "unknown placeholder `{tagret}`", "did you mean `{target}`?"),
            ("{jobdir}", "unknown placeholder `{jobdir}`", "did you mean `{job-dir}`?"),
            ("{label}", "unknown placeholder `{label}`", "name the label's key: `{label.rack}`"),
            ("{label:zone}", "unknown placeholder `{label:zone}`", "did you mean `{label.zone}`?"),
            ("{label.}", "`` is no key of a label", "a label's key has letters, digits, `_`, `.` and `-`"),
            (
                "{zone}",
                "unknown placeholder `{zone}`",
                "a label is `{label.zone}`; a brace itself is `{{` or `}}`; these are known: `{target}`, `{job}`, \
                 `{run}`, `{wave}`, `{attempt}`, `{fence}`, `{store-id}`, `{job-dir}`, `{label.KEY}`",
            ),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.help().as_str()), (message, help), "{text}");
        }
    }
}
