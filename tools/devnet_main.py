# SPDX-License-Identifier: Apache-2.0
"""Nova KMS as it is deployed, on this machine: an EVM chain (anvil) with the contracts, and for
each node an odyn-sim (its enclave's Odyn) and a nova-kms, registered and funded. With several nodes
each has a cable that can be cut (tools/devnet-wire). Everything listens on loopback, on free ports,
and lives in one directory.

tools/devnet run             in the foreground (also without a command); Ctrl-C stops everything
tools/devnet up              in the background
tools/devnet down            stops it
tools/devnet demo            three nodes, one killed, one cut off, and a check that nothing is lost

The other commands do what an operator does, and what happens to nodes: see tools/devnet --help."""
import argparse
import fcntl
import os
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True
import devnet_demo  # noqa: E402
from devnet_lib import (APP_STATUS, Devnet, Failure, KMS_APP_ID, ROOT,  # noqa: E402
                        SAMPLE_APP_ID, is_running, last_line, reap, say)


# --- commands -------------------------------------------------------------------------------------

def start(net, options):
    """Starts everything, or leaves nothing behind."""
    net.dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(net.dir / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure("another tools/devnet is starting in %s" % net.dir) from None
        before = net.state
        try:
            net.up(options)
        except BaseException:
            if net.state is not before:
                net.down()
            raise


def grow(net, options):
    """Waits until all nodes serve; without --together each joins when those before it do. Gives what
    went wrong, or None."""
    try:
        if options.start:
            net.await_ready(options.ready_seconds)
        while options.start and len(net.state["nodes"]) < options.nodes:
            with net.changing():
                node = net.add_node()
            net.await_node(node, options.ready_seconds)
    except Failure as failure:
        return failure
    return None


def command_up(net, options):
    start(net, options)
    failure = grow(net, options)
    net.show()
    if failure is not None:
        raise Failure("%s; the rest runs until tools/devnet down" % failure)


def command_run(net, options):
    start(net, options)
    try:
        failure = grow(net, options)
        net.show()
        if failure is not None:
            say(str(failure))
        say("runs until Ctrl-C")
        watched = {}
        while True:
            reap()
            net.reload()  # Commands in other terminals stop and start nodes.
            if not net.state:
                return
            for process in [p for p in watched.values() if not is_running(p)]:
                del watched[process["name"]]
                say("%s stopped: %s" % (process["name"], last_line(pathlib.Path(process["log"]))))
            watched.update((p["name"], p) for p in net.state["processes"] if is_running(p))
            time.sleep(0.5)
    finally:
        say("stopping")
        net.reload()
        if net.state:
            net.down()


def command_down(net, _):
    if not net.state:
        raise Failure("no devnet runs in %s" % net.dir)
    net.down()


def app_number(text):
    number = {"kms": KMS_APP_ID, "sample": SAMPLE_APP_ID}.get(text)
    if number is None:
        raise argparse.ArgumentTypeError("'%s': it must be kms or sample" % text)
    return number


def add_starting(parser):
    parser.add_argument("--nodes", type=int, choices=range(0, 10), default=1, metavar="N",
                        help="how many nodes, 0 to 9 (1)")
    parser.add_argument("--build", default=str(ROOT / "build"), metavar="DIR",
                        help="where the programs were built (build)")
    parser.add_argument("--no-start", dest="start", action="store_false",
                        help="register the nodes, but print how to start nova-kms instead")
    parser.add_argument("--together", action="store_true",
                        help="start all nodes at once, not each when those before it serve")
    parser.add_argument("--wires", action=argparse.BooleanOptionalAction,
                        help="a cable for each node, to cut (with more than one node)")
    parser.add_argument("--set", action="append", type=setting, metavar="NAME=VALUE",
                        help="a variable of every node's environment")
    add_ready(parser)


def setting(text):
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise argparse.ArgumentTypeError("'%s': it must be NAME=VALUE" % text)
    return name, value


def add_ready(parser):
    parser.add_argument("--ready-seconds", type=int, default=60, metavar="N",
                        help="how long a node may take to become ready (60)")


def command_start(net, options):
    with net.changing():
        node = net.node(options.node)
        if options.command == "restart":
            net.stop(node)
        net.start(node)
    net.await_node(node, options.ready_seconds)


def command_add(net, options):
    with net.changing():
        node = net.add_node()
    say("%s is at %s" % (node["name"], node["url"]))
    net.await_node(node, options.ready_seconds)


def command_status(net, options):
    net.require()
    if options.once or not sys.stdout.isatty():
        net.status()
    else:
        net.watch()


def changes(do):
    """A command of OPERATIONS or FAULTS that changes what devnet.json says."""
    def command(net, options):
        with net.changing():
            do(net, options)
    return command


def obey(word):
    def do(net, options):
        net.order(net.node(options.node), word)
    return do


NODE = ("node", {"help": "1, 2, ..., or node-1, ..."})
FAULTS = (
    ("kill", "end a node with SIGKILL", (NODE,), lambda net, o: net.kill(net.node(o.node))),
    ("stop", "end a node with SIGTERM: it hands over what only it has", (NODE,),
     lambda net, o: net.stop(net.node(o.node))),
    ("cut", "cut a node's cable: what is connected is dropped, and new connections too", (NODE,),
     obey("cut")),
    ("hang", "let nothing through a node's cable, and end nothing", (NODE,), obey("hang")),
    ("heal", "mend a node's cable", (NODE,), obey("heal")),
    ("remove-node", "stop a node, on the chain too, and forget it", (NODE,),
     lambda net, o: net.remove_node(net.node(o.node))),
)
APP = ("app", {"type": app_number, "help": "kms or sample"})
VERSION = ("version", {"type": int, "help": "1, 2, ..."})
INSTANCE = ("instance", {"help": "node-1, ..., or sample"})
STATUS = ("status", {"choices": [s.lower() for s in APP_STATUS]})
OPERATIONS = (
    ("stop-instance", "end an instance in order", (INSTANCE,), lambda net, o: net.platform(
        "stopInstance(address)", net.instance(o.instance)["wallet"])),
    ("fail-instance", "mark an instance as failed", (INSTANCE,), lambda net, o: net.platform(
        "failInstance(address)", net.instance(o.instance)["wallet"])),
    ("register-instance", "register an instance that ended again", (INSTANCE, VERSION),
     lambda net, o: net.chain.transact(*net.registration(net.instance(o.instance), o.version))),
    ("enroll-version", "enroll the next version of an app", (APP,),
     lambda net, o: net.enroll_version(o.app)),
    ("deprecate-version", "no new instances of a version", (APP, VERSION),
     lambda net, o: net.platform("deprecateVersion(uint256,uint256)", o.app, o.version)),
    ("revoke-version", "trust no instance of a version", (APP, VERSION),
     lambda net, o: net.platform("revokeVersion(uint256,uint256)", o.app, o.version)),
    ("set-app-status", "set the status of an app", (APP, STATUS),
     lambda net, o: net.set_app_status(o.app, o.status)),
    ("reset-hash", "forget the master secret's hash on the chain", (),
     lambda net, o: net.reset_hash()),
    ("show", "what runs where, and commands to paste", (), lambda net, o: net.show()),
)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="tools/devnet", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dir", default=os.environ.get("NOVA_DEVNET_DIR", ROOT / "build/devnet"),
                        help="where everything is kept (NOVA_DEVNET_DIR, or build/devnet)")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, text, do in (("run", "start in the foreground; what no command means", command_run),
                           ("up", "start in the background", command_up)):
        command = commands.add_parser(name, help=text)
        add_starting(command)
        command.set_defaults(do=do)
    commands.add_parser("down", help="stop everything").set_defaults(do=command_down)
    command = commands.add_parser("status", help="what the chain and the nodes say now; the nodes "
                                  "again and again on a terminal")
    command.add_argument("--once", action="store_true", help="once, also on a terminal")
    command.set_defaults(do=command_status)
    for name, text in (("start", "start a node that was killed or stopped"),
                       ("restart", "stop a node and start it")):
        command = commands.add_parser(name, help=text)
        command.add_argument(NODE[0], **NODE[1])
        add_ready(command)
        command.set_defaults(do=command_start, command=name)
    command = commands.add_parser("add-node", help="one more node, registered and started")
    add_ready(command)
    command.set_defaults(do=command_add)
    for name, text, operands, do in FAULTS + OPERATIONS:
        command = commands.add_parser(name, help=text)
        for operand, settings in operands:
            command.add_argument(operand, **settings)
        if (name, text, operands, do) in FAULTS:
            do = changes(do)
        command.set_defaults(do=lambda net, o, do=do: (net.require(), do(net, o)))
    command = commands.add_parser("demo", help="three nodes in a directory of their own, one killed "
                                  "and one cut off under load; 0 if nothing was lost")
    devnet_demo.add_options(command)
    command.set_defaults(do=lambda _, options: devnet_demo.run(options))
    options = parser.parse_args(arguments)
    return options if "do" in options else parser.parse_args([*arguments, "run"])


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    options = parse(sys.argv[1:])
    try:
        options.do(Devnet(options.dir), options)
    except Failure as failure:
        sys.exit("devnet: %s" % failure)
    except KeyboardInterrupt:
        sys.exit(0 if options.do is command_run else 130)


if __name__ == "__main__":
    main()
