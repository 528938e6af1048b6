//! Bad input gets one clear error per fault, which names the place and the mend.

use open_dispatch::resource::yaml;

/// Everything that is said about a document.
fn faults(text: &str) -> String {
    yaml::read(text, Some("job.yaml")).expect_err("the document is bad").to_string()
}

macro_rules! said {
    ($name:ident, $text:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(faults($text));
        }
    };
}

/// A job whose spec is this, indented by two.
fn job(spec: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{name: a}}\nspec:\n{spec}"
    )
}

said!(
    every_fault_is_said_at_once,
    r#"apiVersion: opendispatch.dev/v1
kind: Job
metadata:
  name: Not_A_Label
  labels: {"a b": "c d", n: 1}
spec:
  tusk: hello
  agent: {claude: {modle: x}, command: {}}
  runtime:
    local:
      workdri: /tmp
  timeout: 5 minutes
  retries: -1
  cancel: "no"
  report: {detail: strem}
"#
);
said!(
    a_duplicate_key_is_said_with_both_places,
    &job(
        "  task: a\n  agent: {command: {}}\n  task: b\n  env:\n  - {name: A, value: x, value: y}\n"
    )
);
said!(
    a_duplicate_number_key_is_said,
    "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: a, labels: {1: x, 1: y}}\nspec: {task: a, agent: {command: {}}}\n"
);
said!(an_alias_bomb_is_refused, &{
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let before = n - 1;
        let ten = [format!("*a{before}"); 1].join("").repeat(0)
            + &vec![format!("*a{before}"); 10].join(", ");
        text += &format!("a{n}: &a{n} [{ten}]\n");
    }
    text
});
said!(text_that_is_no_yaml_is_refused, "apiVersion: [\nkind: }\n");
said!(a_tab_is_refused, "apiVersion: v1\n\tkind: Job\n");
