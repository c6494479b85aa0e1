use super::*;
use serde_json::json;

fn data() -> serde_json::Value {
    json!({
        "Id": "abc",
        "Name": "/brave_otter",
        "Args": ["-c", "sleep 1"],
        "Empty": [],
        "Count": 3,
        "Ratio": 1.5,
        "Running": true,
        "Nothing": null,
        "Config": { "Labels": { "a": "1", "b.c": "2" }, "Env": ["A=1", "B=2"] },
        "Network": {
            "Ports": { "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }], "81/tcp": null },
            "Networks": { "bridge": { "IPAddress": "172.17.0.2" } },
        },
    })
}

fn render(template: &str) -> Result<String, String> {
    Template::new(template)?.render(&data())
}

#[test]
fn values() {
    for (template, text) in [
        ("", ""),
        ("plain", "plain"),
        ("{{.Id}}", "abc"),
        ("{{ .ID }}", "abc"),
        ("{{.Id}}\t{{.Name}}", "abc\t/brave_otter"),
        ("{{.Count}} {{.Ratio}} {{.Running}} {{.Nothing}}", "3 1.5 true <nil>"),
        ("{{.Args}}", "[-c sleep 1]"),
        ("{{.Config.Labels}}", "map[a:1 b.c:2]"),
        ("{{.Config.Labels.a}}", "1"),
        ("{{.Config.Labels.zzz}}", "<no value>"),
        ("{{$.Id}}", "abc"),
        ("{{\"a\\tb\"}}{{`\\n`}}{{12}}{{-3}}{{true}}", "a\tb\\n12-3true"),
        ("a {{- /* note */ -}} b", "ab"),
        ("a {{- .Count -}} b", "a3b"),
        ("{{$x := .Id}}{{$x}}-{{$x}}", "abc-abc"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
    ] {
        assert_eq!(render(template), Ok(text.to_owned()), "{template}");
    }
}

#[test]
fn calls() {
    for (template, text) in [
        ("{{json .Args}}", "[\"-c\",\"sleep 1\"]"),
        ("{{json .Nothing}}", "null"),
        ("{{.Config.Labels | json}}", "{\"a\":\"1\",\"b.c\":\"2\"}"),
        ("{{join .Args \" \"}}", "-c sleep 1"),
        ("{{.Name | upper | lower | title}}", "/Brave_otter"),
        ("{{title \"hello world\"}}", "Hello World"),
        ("{{index (split .Name \"_\") 1}}", "otter"),
        ("{{slice .Name 1}}", "brave_otter"),
        ("{{truncate .Name 3}}", "/br"),
        ("{{pad .Id 1 2}}|", " abc  |"),
        ("{{println .Id .Count}}", "abc 3\n"),
        ("{{print .Id .Count 4}}", "abc3 4"),
        (
            "{{printf \"%-5s|%5d|%05d|%.2f|%q|%v|%%\" .Id .Count .Count .Ratio .Id .Args}}",
            "abc  |    3|00003|1.50|\"abc\"|[-c sleep 1]|%",
        ),
        ("{{len .Args}}", "2"),
        ("{{index .Args 1}}", "sleep 1"),
        ("{{index .Config.Labels \"b.c\"}}", "2"),
        ("{{index .Config.Labels \"zzz\"}}", ""),
        ("{{(index (index .Network.Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{(index .Network.Ports \"80/tcp\" 0).HostPort}}", "8080"),
        ("{{index .Network.Ports \"82/tcp\"}}", "<nil>"),
        ("{{.Config.Labels \"a\"}}", "1"),
        (
            "{{eq .Id \"abc\"}} {{ne .Count 3}} {{eq .Count 1 2 3}} {{gt .Count 2}} {{le .Ratio 1}}",
            "true false true true false",
        ),
        ("{{and .Running .Id}} {{or .Nothing .Empty .Count}} {{not .Running}}", "abc 3 false"),
    ] {
        assert_eq!(render(template), Ok(text.to_owned()), "{template}");
    }
}

#[test]
fn control() {
    for (template, text) in [
        ("{{if .Running}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Empty}}a{{else if eq .Count 3}}b{{else}}c{{end}}", "b"),
        ("{{range .Args}}<{{.}}>{{end}}", "<-c><sleep 1>"),
        ("{{range $i, $v := .Args}}{{$i}}={{$v}} {{end}}", "0=-c 1=sleep 1 "),
        ("{{range $k, $v := .Network.Networks}}{{$k}} {{$v.IPAddress}}{{end}}", "bridge 172.17.0.2"),
        ("{{range .Network.Networks}}{{.IPAddress}} {{$.Id}}{{end}}", "172.17.0.2 abc"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        (
            "{{range $p, $c := .Network.Ports}}{{$p}}{{if $c}}->{{(index $c 0).HostPort}}{{end}} {{end}}",
            "80/tcp->8080 81/tcp ",
        ),
        ("{{with .Config}}{{.Labels.a}}{{end}}", "1"),
        ("{{with .Nothing}}x{{else}}y{{end}}", "y"),
        ("{{with $n := .Id}}{{$n}}{{end}}", "abc"),
        ("{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", "A=1"),
    ] {
        assert_eq!(render(template), Ok(text.to_owned()), "{template}");
    }
}

#[test]
fn mistakes() {
    for (template, error) in [
        ("{{.Foo}}", "map has no entry for key \"Foo\""),
        ("{{.Nothing.X}}", "nil pointer evaluating interface {}.X"),
        ("{{.Id.X}}", "can't evaluate field X"),
        ("{{index .Args 7}}", "index out of range"),
        ("{{join .Id \",\"}}", "error calling join"),
        ("{{$y}}", "undefined variable \"$y\""),
        ("{{lt .Id 1}}", "incompatible types for comparison"),
    ] {
        let found = render(template).unwrap_err();
        assert!(found.contains(error), "{template}: {found}");
    }
    for (template, error) in [
        ("{{.Id", "unclosed action"),
        ("{{foo .Id}}", "function \"foo\" not defined"),
        ("{{if .Id}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{\"a}}", "unterminated quoted string"),
        ("{{}}", "missing value for command"),
        ("{{(.Id}}", "unclosed left paren"),
        ("{{.Id)}}", "unexpected right paren"),
        ("{{template \"x\"}}", "{{template}} is not supported"),
        ("{{if}}{{end}}", "missing value for if"),
    ] {
        let found = Template::new(template).unwrap_err();
        assert_eq!(found, format!("template parsing error: template: :1: {error}"), "{template}");
    }
}
