from emorl.cli import main

main()
