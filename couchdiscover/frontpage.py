"""What ``couchdiscover --help`` shows: one page, written by hand, and there without any import.

Importing typer takes five times as long as starting Python. The help pages of the commands need it;
this one, which most people meet first, does not.
"""

PAGE = """\
Usage: couchdiscover [COMMAND] [OPTIONS]

  Assembles the CouchDB nodes of a Kubernetes StatefulSet into one verified
  cluster, and exits. In a pod of the StatefulSet, or in a Job with
  COUCHDISCOVER_STATEFULSET, it needs no options.

Commands:
  run    Bring the cluster about: wait, enable, add, finish, verify.
         This is what happens without a command.
  plan   Print the steps that run would take now, and change nothing.
  check  Tell whether the cluster is whole, node by node.
  demo   The whole job on an embedded sandbox; needs no cluster.

  couchdiscover COMMAND --help lists a command's options and their variables.

Options:
  --version             Show the version.
  --install-completion  Install completion for the current shell.
  --show-completion     Show that completion, to copy or change it.
  -h, --help            Show this page.

Exit codes:
  0  done, or already so          4  timed out
  2  usage                        5  denied
  3  a person must act            6  unsafe
  130 and 143  interrupted
"""
