"""The entry point of `cloister`. Ctrl-C prints no traceback, even while modules are being imported."""


def main() -> int:
    try:
        from server.cli import main as cli
    except KeyboardInterrupt:
        return 130
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
