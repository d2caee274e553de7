"""The command's first lines, so that Ctrl-C is no traceback even while the rest is being imported."""


def main() -> int:
    try:
        from server.cli import main as cli
    except KeyboardInterrupt:
        return 130
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
