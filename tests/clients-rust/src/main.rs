//! bollard and testcontainers against the server in `DOCKER_HOST`. Both are strict about types: an answer of another shape than
//! Docker's is an error of theirs.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as Refusal;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerCreateBody, ExecConfig, HostConfig, NetworkConnectRequest, NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    ListImagesOptions, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
    StatsOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use testcontainers::core::{ExecCommand, IntoContainerPort, WaitFor, wait::ExitWaitStrategy};
use testcontainers::runners::AsyncRunner;
use testcontainers::{GenericImage, ImageExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let docker = Docker::connect_with_defaults()?.negotiate_version().await?;
    server(&docker).await?;
    streams(&docker).await?;
    running(&docker).await?;
    networks_and_volumes(&docker).await?;
    services().await?;
    println!("all well");
    Ok(())
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> Outcome<String> {
    let host = body.host_config.unwrap_or_default();
    let host_config = HostConfig { network_mode: Some(host.network_mode.unwrap_or("none".into())), ..host };
    let body = ContainerCreateBody { image: Some("busybox".into()), host_config: Some(host_config), ..body };
    Ok(docker.create_container(Some(CreateContainerOptionsBuilder::new().name(name).build()), body).await?.id)
}

/// Output and errors of a stream that has ended.
async fn both(mut stream: impl Stream<Item = Result<LogOutput, Refusal>> + Unpin) -> Outcome<(String, String)> {
    let (mut out, mut errors) = (vec![], vec![]);
    while let Some(part) = stream.try_next().await? {
        match part {
            LogOutput::StdErr { message } => errors.extend(message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => out.extend(message),
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok((String::from_utf8(out)?, String::from_utf8(errors)?))
}

fn refused<T>(answer: Result<T, Refusal>, code: u16) -> Outcome {
    match answer {
        Err(Refusal::DockerResponseServerError { status_code, .. }) if status_code == code => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(format!("not refused with {code}").into()),
    }
}

async fn server(docker: &Docker) -> Outcome {
    assert_eq!(docker.ping().await?, "OK");
    assert_eq!(docker.info().await?.os_type.as_deref(), Some("linux"));
    assert!(docker.version().await?.api_version.is_some());
    assert!(!docker.list_images(None::<ListImagesOptions>).await?.is_empty());
    let image = docker.inspect_image("busybox").await?;
    assert_eq!(image.os.as_deref(), Some("linux"));
    assert!(!docker.image_history("busybox").await?.is_empty());
    refused(docker.inspect_container("nosuch", None::<InspectContainerOptions>).await, 404)?;
    let options = CreateImageOptionsBuilder::new().from_image("127.0.0.1:1/nosuch").tag("1").build();
    let pulled: Result<Vec<_>, _> = docker.create_image(Some(options), None, None).try_collect().await;
    assert!(pulled.is_err(), "{pulled:?}");
    Ok(())
}

async fn streams(docker: &Docker) -> Outcome {
    let command = words(&["sh", "-c", "read word; echo got $word; echo bad >&2; exit 3"]);
    let body =
        ContainerCreateBody { cmd: command, open_stdin: Some(true), stdin_once: Some(true), ..Default::default() };
    create(docker, "reader", body).await?;
    let options = AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let mut attached = docker.attach_container("reader", Some(options)).await?;
    docker.start_container("reader", None::<StartContainerOptions>).await?;
    attached.input.write_all(b"words\n").await?;
    attached.input.shutdown().await?;
    assert_eq!(both(attached.output).await?, ("got words\n".into(), "bad\n".into()));
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let ended: Vec<_> = docker.wait_container("reader", Some(options)).collect().await;
    assert!(matches!(&ended[..], [Err(Refusal::DockerContainerWaitError { code: 3, .. })]), "{ended:?}");
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
    assert_eq!(both(Box::pin(docker.logs("reader", Some(options)))).await?, ("got words\n".into(), "bad\n".into()));
    docker.remove_container("reader", None).await?;
    Ok(())
}

async fn running(docker: &Docker) -> Outcome {
    let labels = HashMap::from([("purpose".to_owned(), "test".to_owned())]);
    let filters = HashMap::from([("label".to_owned(), vec!["purpose=test".to_owned()])]);
    let mut events = Box::pin(docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build())));
    // Asked for before the first event happens.
    let first = tokio::time::timeout(std::time::Duration::from_millis(300), events.next()).await;
    assert!(first.is_err(), "{first:?}");
    let body = ContainerCreateBody { cmd: words(&["sleep", "1000"]), labels: Some(labels), ..Default::default() };
    create(docker, "steady", body).await?;
    docker.start_container("steady", None::<StartContainerOptions>).await?;
    let listed = docker.list_containers(Some(ListContainersOptionsBuilder::new().filters(&filters).build())).await?;
    assert_eq!(listed[0].names, Some(vec!["/steady".to_owned()]));
    let seen = docker.inspect_container("steady", None::<InspectContainerOptions>).await?;
    assert_eq!(seen.state.and_then(|state| state.running), Some(true));

    let config = ExecConfig {
        cmd: words(&["sh", "-c", "cat; echo err >&2; exit 4"]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec("steady", config).await?.id;
    let StartExecResults::Attached { output, mut input } = docker.start_exec(&exec, None).await? else {
        return Err("detached".into());
    };
    input.write_all(b"typed\n").await?;
    input.shutdown().await?;
    assert_eq!(both(output).await?, ("typed\n".into(), "err\n".into()));
    assert_eq!(docker.inspect_exec(&exec).await?.exit_code, Some(4));

    let options = DownloadFromContainerOptionsBuilder::new().path("/etc/passwd").build();
    let packed = docker.download_from_container("steady", Some(options)).try_collect::<Vec<_>>().await?.concat();
    let options = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    docker.upload_to_container("steady", Some(options), bollard::body_full(packed.into())).await?;
    let options = DownloadFromContainerOptionsBuilder::new().path("/tmp/passwd").build();
    let back = docker.download_from_container("steady", Some(options)).try_collect::<Vec<_>>().await?.concat();
    assert!(back.windows(5).any(|part| part == b"root:"));

    let mut frames = Box::pin(docker.stats("steady", Some(StatsOptionsBuilder::new().stream(true).build())));
    let frame = frames.try_next().await?.ok_or("no statistics")?;
    assert!(frame.memory_stats.and_then(|memory| memory.usage).is_some_and(|usage| usage > 0));
    drop(frames);
    assert!(docker.top_processes("steady", None).await?.processes.is_some_and(|all| !all.is_empty()));
    docker.pause_container("steady").await?;
    docker.unpause_container("steady").await?;
    docker.stop_container("steady", Some(StopContainerOptionsBuilder::new().t(0).build())).await?;
    docker.remove_container("steady", Some(RemoveContainerOptionsBuilder::new().force(true).build())).await?;
    let mut actions = vec![];
    while actions.last().is_none_or(|last| last != "destroy") {
        actions.push(events.try_next().await?.ok_or("the events end")?.action.unwrap_or_default());
    }
    for wanted in ["create", "start", "pause", "unpause", "die"] {
        assert!(actions.iter().any(|action| action == wanted), "no {wanted} in {actions:?}");
    }
    Ok(())
}

async fn networks_and_volumes(docker: &Docker) -> Outcome {
    let request = NetworkCreateRequest { name: "wire".into(), ..Default::default() };
    docker.create_network(request.clone()).await?;
    refused(docker.create_network(request).await, 409)?;
    docker.create_volume(VolumeCreateRequest { name: Some("kept".into()), ..Default::default() }).await?;
    let host_config =
        HostConfig { network_mode: Some("bridge".into()), binds: words(&["kept:/kept"]), ..Default::default() };
    let body =
        ContainerCreateBody { cmd: words(&["sleep", "1000"]), host_config: Some(host_config), ..Default::default() };
    let id = create(docker, "member", body).await?;
    docker.connect_network("wire", NetworkConnectRequest { container: id, endpoint_config: None }).await?;
    docker.start_container("member", None::<StartContainerOptions>).await?;
    let seen = docker.inspect_container("member", None::<InspectContainerOptions>).await?;
    assert_eq!(seen.network_settings.and_then(|settings| settings.networks).map(|all| all.len()), Some(2));
    assert!(docker.inspect_network("wire", None).await?.name.is_some_and(|name| name == "wire"));
    refused(docker.remove_volume("kept", None::<RemoveVolumeOptions>).await, 409)?;
    docker.remove_container("member", Some(RemoveContainerOptionsBuilder::new().force(true).build())).await?;
    docker.remove_volume("kept", None::<RemoveVolumeOptions>).await?;
    docker.remove_network("wire").await?;
    docker.df(None).await?;
    Ok(())
}

/// testcontainers, by its ways to wait; it removes what it has started when the value is dropped.
async fn services() -> Outcome {
    let redis = GenericImage::new("redis", "7")
        .with_exposed_port(6379.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .start()
        .await?;
    let mut stream =
        tokio::net::TcpStream::connect((redis.get_host().await?.to_string(), redis.get_host_port_ipv4(6379).await?))
            .await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"+PONG\r\n");

    let postgres = GenericImage::new("postgres", "15")
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::message_on_stderr("database system is ready to accept connections"))
        .with_env_var("POSTGRES_PASSWORD", "secret")
        .start()
        .await?;
    let command = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-tAc", "select 6 * 7"];
    let mut result = postgres.exec(ExecCommand::new(command).with_env_vars([("PGPASSWORD", "secret")])).await?;
    assert_eq!(String::from_utf8(result.stdout_to_vec().await?)?, "42\n");
    assert_eq!(result.exit_code().await?, Some(0));

    let once = GenericImage::new("busybox", "latest")
        .with_wait_for(WaitFor::exit(ExitWaitStrategy::new().with_exit_code(0)))
        .with_cmd(["sh", "-c", "cat /sent"])
        .with_copy_to("/sent", b"content".to_vec())
        .start()
        .await?;
    assert_eq!(once.stdout_to_vec().await?, b"content");
    for container in [redis, postgres, once] {
        container.rm().await?;
    }
    Ok(())
}
